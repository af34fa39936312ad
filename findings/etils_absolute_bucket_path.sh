#!/usr/bin/env bash
# etils 1.15.0: epath.Path("gs://bucket/run") is a path of a bucket, and is_absolute() says so; one would
# guess that absolute() and resolve() leave it as it is, as they do with absolute paths of a disk.
# Seen: both put the working directory before it, and what is written there lands on the local disk.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "etils[epath]==1.15.0"
cat >"$folder/run.py" <<'PYTHON'
from etils import epath

path = epath.Path("gs://bucket/run")
print("is absolute:", path.is_absolute())
for name in ("absolute", "resolve"):
  found = getattr(path, name)()
  print(f"{name} stays in the bucket:", str(found).startswith("gs://"))
PYTHON
cd "$folder"
"$folder/venv/bin/python" run.py | tee seen
diff seen - <<'SEEN'
is absolute: True
absolute stays in the bucket: False
resolve stays in the bucket: False
SEEN
echo "as described"
