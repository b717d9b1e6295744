"""Options for Spark jobs of seconds: Java compiles little and loads the classes that set-up has archived."""

import sys
from pathlib import Path


def _archive_options() -> str:
    """The options for set-up's class archive (bin/common.sh); none without an archive or if its path has a space."""
    archives = [path for path in Path(sys.prefix).glob("spark-*.jsa") if path.stat().st_size and " " not in str(path)]
    silence = "-Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off"  # of a Java that refuses the archive
    return f" -XX:SharedArchiveFile={archives[0]} {silence}" if archives else ""


JAVA_OPTIONS = f"-XX:+UseSerialGC -XX:TieredStopAtLevel=1{_archive_options()}"
