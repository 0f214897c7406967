"""Diagnosis to malignant: the one table, and the codes by which collections call the diagnoses."""

MALIGNANT = {
    "melanoma": 1,
    "basal cell carcinoma": 1,
    "squamous cell carcinoma": 1,
    "actinic keratosis": 1,  # precancerous; counted as malignant by the convention of the ISIC 2018 and 2019 studies
    "actinic keratosis or intraepithelial carcinoma": 1,  # HAM10000 does not tell them apart: see `ham10000`
    "nevus": 0,
    "benign keratosis": 0,
    "dermatofibroma": 0,
    "vascular lesion": 0,
}

HAM10000_CODES = {
    "mel": "melanoma",
    "nv": "nevus",
    "bcc": "basal cell carcinoma",
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "vasc": "vascular lesion",
}

ISIC2019_COLUMNS = {
    "MEL": "melanoma",
    "NV": "nevus",
    "BCC": "basal cell carcinoma",
    "AK": "actinic keratosis",
    "BKL": "benign keratosis",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
    "SCC": "squamous cell carcinoma",
    "UNK": "",  # none of the others; never set in the training part
}


def ham10000(code: str, akiec: str) -> tuple[str, int]:
    """Diagnosis and malignant (0, 1, -1 = not used) of a HAM10000 `dx` code.

    Args:
      code: one of HAM10000_CODES.
      akiec: "malignant" or "exclude": what becomes of 'akiec', of which ISIC 2019 calls 130 of 327 actinic keratoses.

    Raises:
      ValueError: `code` is unknown.
    """
    if code not in HAM10000_CODES:
        raise ValueError(f"dx = {code!r}: must be one of {', '.join(HAM10000_CODES)}")
    diagnosis = HAM10000_CODES[code]
    return diagnosis, -1 if code == "akiec" and akiec == "exclude" else MALIGNANT[diagnosis]


def isic2019(one_hot: dict[str, str]) -> tuple[str, int]:
    """Diagnosis and malignant (0, 1, -1 = unknown) of an ISIC 2019 ground-truth row.

    Raises:
      ValueError: not exactly one of ISIC2019_COLUMNS is 1.
    """
    chosen = [column for column in ISIC2019_COLUMNS if float(one_hot[column] or 0) == 1]
    if len(chosen) != 1:
        raise ValueError(
            f"diagnosis columns that are 1: {chosen}; must be exactly one of {', '.join(ISIC2019_COLUMNS)}"
        )
    diagnosis = ISIC2019_COLUMNS[chosen[0]]
    return diagnosis, MALIGNANT.get(diagnosis, -1)


def isic2020(diagnosis: str, target: str) -> tuple[str, int]:
    """Diagnosis in the collection's words and malignant, which in ISIC 2020 means melanoma only.

    Raises:
      ValueError: `target` is neither 0 nor 1, or contradicts `diagnosis`.
    """
    if target not in ("0", "1") or (diagnosis == "melanoma") != (target == "1"):
        raise ValueError(f"target = {target!r}, diagnosis = {diagnosis!r}: target must be 1 for melanoma, otherwise 0")
    return diagnosis, int(target)
