"""Measures how plain the words of Python code are: vague names and idioms, with the sizes of functions and folders.

    python tests/plain_words.py [--list] [FOLDER OR FILE ...]

Prints one line per folder and a total; the default is this project's own code. With --list it prints every hit
instead, as path:line: kind: word, so that an editor can jump to it.

What is counted
    names      Vague names per 1,000 bindings. A binding is an assignment target (plain, annotated, augmented, an
               attribute such as self.x, a walrus), a loop variable, a `with ... as` or `except ... as` name, a
               parameter, or a function name. self, cls, names of underscores alone and dunder names do not count.
    idioms     Idioms per 1,000 words of comments and docstrings. Licence headers and linter directives do not count.
    messages   Idioms per 1,000 words of the other string literals, quoted strings of shell scripts included, that
               have at least four words.
    pages      Idioms per 1,000 words of Markdown and HTML, code blocks and tags left out.
    functions  Median and 95th percentile of the lines of a function, decorators and docstring included.
    module     Lines of the longest module.
    folder     The most modules that lie directly in one folder, __init__.py left out.

Inside another codebase, its tests and generated protobuf modules are left out; a folder of tests that is named on the
command line is measured.

The same figures of other codebases, their packages without tests, and of this project before its words were mended:

                           commit     names    idioms  messages    pages   functions   module   folder
    torchtitan             b5bcd76      0.4       0.4       0.3      0.8     16 / 84     2451       33
    stable-baselines3      e05d2db      1.4       0.4       0.0      0.0     10 / 59      987       21
    d3rlpy                 38c34b6      0.0       0.4       0.0      0.0      6 / 45      985       20
    lerobot                7427f31      0.8       0.6       0.2      0.3     12 / 71     4701       27
    feast                  f0bc070      1.8       0.3       0.4      1.2     13 / 80     5091       70
    astronomer-cosmos      d2c90b4      0.6       0.6       0.0      0.0     12 / 53     1499       16
    this project           95b3acc     72.4      31.4      14.2     20.9      7 / 27      849       51

What others use in a technical sense is not in the lists (out, seen, done, remainder; "stands for", "held out"). The
nouns that are vague everywhere (data, info, result, value, item, output) are not, either: with them the others have
14 to 24 vague names per 1,000, this project had 81 to 109.
"""

import argparse
import ast
import io
import os
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = (
    "bin", "dags", "schemas", "lakehouse", "features", "jobs", "mtorl_model", "simulation", "benchmarks",
    "tests", "docs",
)  # fmt: skip

# A name is vague if it would fit a value of any kind. Standard terms that look similar are not in this table: index,
# path, rows, key, out, now, today, first, last, start, end, left, right, new, old, seen (visited), done (end of an
# episode), past (of a cache), chosen (of a preference pair), temp (temperature), remainder (of a division).
VAGUE = {
    "prepositions and conjunctions": (
        "of by at in on to from with for into onto upon against about above below across along among around before "
        "after behind beside besides between beyond during except inside outside near off over per since through "
        "than though until unless within without while because if but and or as"
    ),
    "pronouns and determiners": (
        "it its this that these those they them one ones other others another each every everyone everybody everything "
        "all some someone somebody something any anyone anybody anything nobody nothing both either neither same such "
        "what whatever which whichever who whoever whom whose mine ours theirs own self_ none"
    ),
    "adverbs": (
        "here there when why how then thus so again also already always else ever never once only still together too "
        "yet away alone ahead apart meanwhile afterwards elsewhere"
    ),
    "amounts of something": "more most many much few fewer several less least enough whole rest",
    "participles that fit anything": (
        "found told held said asked kept given got gone taken brought put made meant wanted shown had been called "
        "heard come came let lain stood lay"
    ),
    "verbs": (
        "say says tell tells ask asks hold holds lies stands goes comes want wants was were is are has have does did "
        "do can may must look looks take takes give gives begins"
    ),
    "fillers": "thing things stuff tmp foo baz qux misc junk blah whatnot dummy",
}
VAGUE_WORDS = {word: kind for kind, words in VAGUE.items() for word in words.split()}
# As the name of a function a verb is right: ask, take, look.
RIGHT_FOR_FUNCTIONS = "verbs"
# A name that begins like this lacks its noun: of_day.
VAGUE_BEGINNINGS = ("of",)
OPERATORS = re.compile(r"__(eq|ne|lt|le|gt|ge|r?(add|sub|mul|truediv|and|or|xor|matmul))__")
SHAPE_SUFFIX = re.compile(r"(_[A-Z][A-Z0-9]*|_?[0-9]+)$")

# An idiom is a phrase that an engineer who reads English well, and perhaps as a second language, reads twice.
IDIOMS = {
    "things that lie and stand": (
        r"\b(?:lies?|lay|lain|lying)\b(?! (?:in \[|within|between|on the))",
        r"\b(?:stands?|stood)\b(?! (?:for|alone|out))",
        r"\bside by side\b|\bone (?:behind|after) the other\b|\bbeside\b",
    ),
    "speech for facts": (
        r"\b(?:un)?told\b",
        r"\btells? (?:of|apart|no|nothing|a little|so|which|what|by)\b",
        r"\bsa(?:ys|id)\b|\bsay (?:so|why|what|which|who|where|how|whether|nothing|no|of)\b",
        r"\bcalled so\b|\bso called\b",
        r"\basked\b(?! questions)",
        r"\b(?:has|have|had) (?:no|a) say\b|\bspeaks? (?:of|for)\b|\bhears? of\b|\bsilent about\b",
        r"\b(?:knows?|knew) (?:of|no|nothing|neither)\b",
        r"\banswers? (?:to|of|for)\b",
    ),
    "held": (r"(?<!lock is )(?<!lock )\bheld\b(?![- ]out)",),
    "none, nobody, nothing": (
        r"\b(?:is|are|was|were|be|has|have|had|there) (?-i:none)\b",
        r"\b(?-i:none) (?:is|are|was|were)\b(?! (?:\w+ed|given|set|found)\b)",
        r"\b(?-i:none) (?:has|have|there|that|but|at|takes|stands)\b",
        r"\b(?-i:none) of the \w+'s\b",
        r"\bnobody\b|\bno one\b",
        r"(?<!there )\b(?:is|are|was|were|be) no\b(?! (?:longer|more|less|greater|need|op\b))",
        r"\bnothing (?:to(?! do\b)|that|but|of|goes|stays)\b",
        r"\bnot at all\b|\bif at all\b",
        r"\bno \w+ (?:is|are|was|were|does|do|has|have) not\b|\bnot (?-i:no|none|nothing)\b",
        r"\b(?-i:None|0|NaN|null|empty|False) where\b",
        r"\bwhere (?:there|it|they|that) (?:is|are|was|were|do|does|has|have)\b|\bnowhere\b",
    ),
    "whoever and what": (
        r"\bwho(?:m|so)?ever\b|\b(?:some|any|every)body\b",
        r"\bwhatever (?:it|is|was|they|that|takes|lies|comes|came|happens)\b",
        r"\bhowever (?:\w+ )?(?:it|they|the|many|long|often)\b",
        r"(?:^|[.;:] )(?-i:What|Who)\b(?![^.;:?]*\?)",
        r"\b(?:of|with|to|by|for|from|than|in|on|beside|and|but|as|all) what\b(?![^.;:?]*\?)",
        r"\bwhat (?:is|was|are|were) (?:over|left|there|said|meant|to come|known|new|gone|read|asked|kept|missing)\b",
        r"\bwhat (?:comes?|came|becomes?|became|lies|stands|stood|goes|went|takes|brings|belongs|follows|fails)\b",
    ),
    "no noun": (
        r"(?:^|[.;:] )(?-i:Of|Those of|Those that|That of|The same of|As if of|As much|As many|As few|As far)\b",
        r"(?:^|[.;:] )(?-i:Whose|Whom|None where|None but)\b",
        r"\b\w+'s(?=[.;:)](?:\s|$)|$)",
        r"\bof (?:its|their|his|her|one's|our|an?) own\b|\bthe own\b|\bof each its\b",
        r"\b(?:a|an|one) (?!few|lot|bit|is|has|plus|if|in|of|with|for|at|over|as)[a-z]+ (?:a|an) [a-z]+\b",
        r"\b(?:a|an|one) (?!of|for|in)[a-z]+ each\b",
        r"\b(?:is|are|was|were|be) of\b(?! (?:the same|type|length|size|shape|order|interest))",
        r"\b(?:a|the|no|any|each|that|this|which|every|some) (?:\w+ )?one (?:is|are|has|that|who|of its|of their)\b",
    ),
    "set phrases": (
        r"\b(?:at|in|to|on) hand\b|\bby heart\b|\bin the making\b|\bat once\b|\bin one go\b|\bone and the same\b",
        r"\bso (?:many|much|few|little|long)\b(?! as\b)",
        r"\b(?:go|goes|went|going|gone) on\b(?! (?:the|to)\b)",
        r"\b(?:is|are|was|were) (?:there|over)(?=[.,;:)]|$)",
        r"\bgo(?:es)? by\b|\brests? (?:on|upon)\b|\bbears?\b(?! in mind)",
        r"\bsome (?:seconds|minutes|days|hundreds?|thousands?|ten|kilobytes|at)\b",
        r"\bcom(?:es?|ing) (?:to (?!the|a\b)|of|about|in late)|\bcame (?:to|of|about)\b",
        r"\bbec(?:ame|omes?) of\b|\bmade? (?:nothing|little|much) of\b",
        r"\b(?:tak(?:es?|ing|en)|took) (?:the|its|their) place\b|\bin (?:its|their) place\b",
        r"\bas (?:it|they) (?:is|are|was|were|stands?|lies?|lay|comes?|came|goes)\b"
        r"(?=[.,;:)]|$| (?:now|today|in|by|and|where|when)\b)",
        r"\bbut for\b|\ball but\b|\bnothing but\b|\bsave for\b|\b(?-i:none) but\b|\bif not\b(?=[.,;])",
        r"\bfor good\b|\bonce and for all\b|\bto be had\b",
        r"\b(?:to|yet|still) come\b(?! (?:from|with|first|before|after|in|up))",
        r"\b(?:may|might|can|could|must|would|not) pass for\b|\bmake(?:s)? do\b|\bgives? way\b",
        r"\bleft alone\b|\bset going\b|\bhand(?:s|ed|ing)? out\b",
        r"\bthe very (?!first|last|same|beginning|end)\w+|\bfor want of\b|\bat rest\b|\bdone with\b",
    ),
    "rare words": (
        r"\b(?:anew|nought|naught|lest|nay|thereof|whereof|whence|thence|hitherto|unlike times|dearer|dearest|oddly|"
        r"ought|asunder|henceforth|aught|amid|amidst|betwixt|ere|meanwhile)\b",
    ),
    "order of words": (
        r"(?:,|;|\band|:) so (?:is|are|does|do|has|have|was|were|can|may)\b(?! not\b)",
        r"\bnor (?:is|are|does|do|has|have|was|were|can|may)\b",
        r"\bthat\b[^.;:()]{1,80}\bthat\b[^.;:()]{1,80}\bthat\b",
    ),
}
PATTERNS = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, patterns in IDIOMS.items() for pattern in patterns]

WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
DIRECTIVE = re.compile(r"^(!|noqa|type:|fmt:|pylint|pragma|isort|mypy:|ruff:|-\*-)", re.IGNORECASE)
LICENCE = re.compile(r"copyright|licen[cs]e", re.IGNORECASE)
# Code blocks, styles, template expressions and tags.
NO_PROSE = re.compile(r"```.*?```|<(style|script).*?</\1>|<!--.*?-->|\{%.*?%\}|\{\{.*?\}\}|</?[a-z][^>]*>", re.DOTALL)
GENERATED = re.compile(r"_pb2(_grpc)?\.py$")
TEST_FOLDERS = {"tests", "test"}
# These two are full of idioms, as examples.
LEFT_OUT = {Path(__file__).resolve(), Path(__file__).resolve().with_name("test_plain_words.py")}
FEWEST_MESSAGE_WORDS = 4


@dataclass(frozen=True, order=True)
class Hit:
    """A vague name or an idiom. kind: name, comment, message or page."""

    path: Path
    line: int
    kind: str
    text: str


@dataclass
class Figures:
    """Counts of a file or of several."""

    bindings: int = 0
    words: dict[str, int] = field(default_factory=lambda: {"comment": 0, "message": 0, "page": 0})
    hits: list[Hit] = field(default_factory=list)
    function_lines: list[int] = field(default_factory=list)
    module_lines: list[int] = field(default_factory=list)
    folders: dict[Path, int] = field(default_factory=dict)

    def add(self, more_figures: "Figures") -> None:
        self.bindings += more_figures.bindings
        self.hits += more_figures.hits
        self.function_lines += more_figures.function_lines
        self.module_lines += more_figures.module_lines
        for kind, count in more_figures.words.items():
            self.words[kind] += count
        for folder, count in more_figures.folders.items():
            self.folders[folder] = self.folders.get(folder, 0) + count

    def rate(self, kind: str) -> float:
        """Hits of a kind per 1,000 bindings or words; 0 where there are none."""
        total = self.bindings if kind == "name" else self.words[kind]
        return 1000 * sum(hit.kind == kind for hit in self.hits) / total if total else 0.0


def is_vague(name: str, is_function: bool = False) -> bool:
    """Whether a name would fit any value. Shape suffixes are ignored: found_N, told_BLD, other2."""
    bare = name.strip("_")
    if not bare.isupper():
        bare = SHAPE_SUFFIX.sub("", bare)
    bare = bare.lower().strip("_")
    if bare.split("_")[0] in VAGUE_BEGINNINGS:
        return True
    return bare in VAGUE_WORDS and not (is_function and VAGUE_WORDS[bare] == RIGHT_FOR_FUNCTIONS)


def bindings(nodes: list[ast.AST]) -> Iterator[tuple[int, str, bool]]:
    """Line and name of everything that these nodes bind, and whether it is a function."""
    exempt = set(enum_members(nodes)) | set(operands(nodes))
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                is_function = False
            case ast.ExceptHandler(name=str(name)):
                is_function = False
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                is_function = True
            case _:
                continue
        is_dunder = name.startswith("__") and name.endswith("__")
        if name.strip("_") and name not in ("self", "cls") and not is_dunder and node not in exempt:
            yield node.lineno, name, is_function


def enum_members(nodes: list[ast.AST]) -> Iterator[ast.AST]:
    """A member is read behind the name of its class: Known.BEFORE."""
    for node in nodes:
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
            for statement in node.body:
                if isinstance(statement, ast.Assign):
                    yield from statement.targets


def operands(nodes: list[ast.AST]) -> Iterator[ast.AST]:
    """Python's own documentation calls the second operand `other`."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and OPERATORS.fullmatch(node.name):
            yield from node.args.args


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each block of whole-line comments and of each comment behind code, without licence headers."""
    block: list[tuple[int, str]] = []
    code_seen = False

    def flush() -> Iterator[tuple[int, str]]:
        text = "\n".join(line for _, line in block)
        if block and (code_seen or not LICENCE.search(text)):
            yield block[0][0], text
        block.clear()

    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("#").lstrip(": ")
            is_behind_code = bool(token.line[: token.start[1]].strip())
            if is_behind_code or (block and token.start[0] != block[0][0] + len(block)):
                yield from flush()
            if not DIRECTIVE.match(text):
                block.append((token.start[0], text))
            elif block:
                block.append((token.start[0], ""))
            if is_behind_code:
                yield from flush()
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING):
            yield from flush()
            code_seen = True
    yield from flush()


def docstrings(nodes: list[ast.AST]) -> Iterator[ast.Constant]:
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            match node.body[0]:
                case ast.Expr(value=ast.Constant(value=str()) as constant):
                    yield constant


def messages(nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    """Line and text of the string literals that are sentences; the values of an f-string are left out."""
    skipped: set[ast.AST] = set(docstrings(nodes))
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
            text = "".join(str(v.value) if isinstance(v, ast.Constant) else "0" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            text = node.value
        else:
            continue
        if len(WORD.findall(text)) >= FEWEST_MESSAGE_WORDS:
            yield node.lineno, text


def idioms(text: str) -> Iterator[tuple[int, str]]:
    """Line, from 0, and words of each idiom in a text. Words inside backquotes are code. No word counts twice."""
    text = re.sub(r"``?[^`\n]+``?", lambda quoted: "x" * len(quoted[0]), text)
    flat = re.sub(r"\n\s*\n", lambda gap: "." + " " * (len(gap[0]) - 1), text)
    flat = re.sub(r"\s", " ", flat)
    taken: list[tuple[int, int]] = []
    for _, pattern in PATTERNS:
        for match in pattern.finditer(flat):
            start = match.end() - len(match[0].lstrip(".;: "))
            end = match.end()
            if all(end <= first or last <= start for first, last in taken):
                taken.append((start, end))
    for start, end in sorted(taken):
        yield text[:start].count("\n"), " ".join(flat[start:end].split())


def add_text(figures: Figures, path: Path, line: int, kind: str, text: str) -> None:
    figures.words[kind] += len(WORD.findall(text))
    figures.hits += [Hit(path, line + offset, kind, words) for offset, words in idioms(text)]


def measure_python(path: Path) -> Figures:
    source = path.read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(source)))
    figures = Figures(module_lines=[len(source.splitlines())])
    if path.name != "__init__.py":
        figures.folders[path.parent] = 1
    for line, name, is_function in bindings(nodes):
        figures.bindings += 1
        if is_vague(name, is_function):
            figures.hits.append(Hit(path, line, "name", name))
    for line, text in comments(source):
        add_text(figures, path, line, "comment", text)
    for constant in docstrings(nodes):
        add_text(figures, path, constant.lineno, "comment", constant.value)
    for line, text in messages(nodes):
        add_text(figures, path, line, "message", text)
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            figures.function_lines.append(node.end_lineno - first + 1)
    return figures


def measure_shell(path: Path) -> Figures:
    figures = Figures()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if re.match(r"\s*#(?!!)", line):
            add_text(figures, path, number, "comment", line.strip().lstrip("# "))
            continue
        for text in re.findall(r'"([^"]*)"', line):
            if len(WORD.findall(text)) >= FEWEST_MESSAGE_WORDS:
                add_text(figures, path, number, "message", text)
    return figures


def measure_page(path: Path) -> Figures:
    figures = Figures()
    source = path.read_text(encoding="utf-8")
    text = NO_PROSE.sub(lambda code: "\n" * code[0].count("\n") or " ", source)
    add_text(figures, path, 1, "page", text)
    return figures


MEASURES = {".py": measure_python, ".sh": measure_shell, ".md": measure_page, ".html": measure_page}


def files_of(folder: Path) -> Iterator[Path]:
    """The files to measure. Tests inside a package are left out, generated modules too."""
    if folder.is_file():
        yield folder
        return
    for path in sorted(folder.rglob("*")):
        is_test = TEST_FOLDERS & set(path.relative_to(folder).parts[:-1])
        is_left_out = is_test or path.resolve() in LEFT_OUT or GENERATED.search(path.name)
        if path.suffix in MEASURES and not is_left_out:
            yield path


def measure(folder: Path) -> Figures:
    """Figures of a folder or a file. A file that Python cannot parse is named on standard error."""
    figures = Figures()
    for path in files_of(folder):
        try:
            figures.add(MEASURES[path.suffix](path))
        except (SyntaxError, tokenize.TokenError, UnicodeDecodeError) as error:
            print(f"{path} is left out: {error}", file=sys.stderr)
    return figures


def quantile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0


def line_of(name: str, figures: Figures) -> str:
    functions = f"{statistics.median(figures.function_lines or [0]):.0f} / {quantile(figures.function_lines, 0.95)}"
    rates = "".join(f"{figures.rate(kind):>10.1f}" for kind in ("name", "comment", "message", "page"))
    longest = max(figures.module_lines, default=0)
    widest = max(figures.folders.values(), default=0)
    return f"{name:<28}{rates}{functions:>12}{longest:>8}{widest:>8}"


HEADER = f"{'':<28}{'names':>10}{'idioms':>10}{'messages':>10}{'pages':>10}{'functions':>12}{'module':>8}{'folder':>8}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="default: this project's own code")
    parser.add_argument("--list", action="store_true", help="print every hit as path:line: kind: word")
    args = parser.parse_args()
    folders = args.folders or [path for path in (*(ROOT / name for name in OWN), ROOT / "README.md") if path.exists()]
    missing = [str(folder) for folder in folders if not folder.exists()]
    if missing:
        parser.error(f"there is no {missing[0]}")
    total = Figures()
    if not args.list:
        print(HEADER)
    for folder in folders:
        figures = measure(folder)
        if args.list:
            for hit in sorted(figures.hits):
                print(f"{os.path.relpath(hit.path)}:{hit.line}: {hit.kind}: {hit.text}")
        else:
            print(line_of(folder.name, figures))
        total.add(figures)
    if not args.list and len(folders) > 1:
        print(line_of("total", total))


if __name__ == "__main__":
    main()
