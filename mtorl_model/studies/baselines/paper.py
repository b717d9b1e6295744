"""Table 2 of the paper: macro-F1, precision and recall, in the order of SCORES (position_scores.py).

Its protocol leaks (studies/published.py), so its numbers are comparable with those of that protocol only.
"""

from collections.abc import Mapping

TABLE_2: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "kuairand": {
        "wide_and_deep": (0.5210, 0.5464, 0.5269),
        "din": (0.5649, 0.5692, 0.5669),
        "star": (0.5731, 0.5744, 0.5738),
        "mirec": (0.5723, 0.5735, 0.5727),
        "rbcq": (0.6148, 0.6154, 0.6150),
        "ag": (0.6060, 0.6081, 0.6065),
        "bc": (0.5862, 0.5863, 0.5862),
        "cql": (0.5970, 0.5980, 0.5972),
        "iql": (0.6203, 0.6251, 0.6203),
        "dt": (0.6296, 0.6327, 0.6308),
        "odt": (0.6319, 0.6390, 0.6335),
        "mtorl": (0.6793, 0.6811, 0.6798),
    },
    "criteo": {
        "wide_and_deep": (0.2712, 0.2966, 0.2663),
        "din": (0.2974, 0.3118, 0.2808),
        "star": (0.2956, 0.3092, 0.2878),
        "mirec": (0.3034, 0.3170, 0.2991),
        "rbcq": (0.3440, 0.3854, 0.3326),
        "ag": (0.2982, 0.3239, 0.2934),
        "bc": (0.2850, 0.3311, 0.2659),
        "cql": (0.3395, 0.3906, 0.3173),
        "iql": (0.3834, 0.4230, 0.3655),
        "dt": (0.4303, 0.4922, 0.4101),
        "odt": (0.4168, 0.4738, 0.3918),
        "mtorl": (0.5002, 0.5424, 0.4893),
    },
}
