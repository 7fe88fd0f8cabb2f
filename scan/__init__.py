"""From the scan to the mask: a PET series (DICOM or NIfTI) -> SUV -> projection -> lesions.

`python -m scan SOURCE ... --out DIR`; see docs/own-scans.md.
"""

import tumour_segmenter  # noqa: F401  (switches onnxruntime's telemetry off before anything imports it)
