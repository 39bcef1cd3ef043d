#!/bin/sh
# Makes the fixtures of this folder with TorchServe's own archiver:
#   pip install torch-model-archiver==0.12.0 && ./make.sh
set -eu
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cd "$work"
printf 'def handle(data, context):\n    return data\n' > noop.py
printf 'not really weights\n' > weights.pt
printf 'class Net: pass\n' > net.py
printf 'numpy\n' > requirements.txt
printf 'minWorkers: 1\nmaxWorkers: 2\nbatchSize: 4\nhandler:\n  mean: 0.5\n' > model-config.yaml
mkdir -p extra/sub/.hidden extra/__pycache__
echo '{"0": "zero"}' > extra/index_to_name.json
echo deep > extra/sub/deep.txt
echo no > extra/sub/.hidden/x
echo no > extra/__pycache__/x.pyc
echo dot > extra/.dotfile
for format in default tgz; do
  torch-model-archiver --model-name noop --version 1.2 --handler noop:handle \
    --serialized-file weights.pt --model-file net.py --extra-files extra \
    --requirements-file requirements.txt --config-file model-config.yaml \
    --archive-format "$format" --export-path "$out" --force
done
printf 'not really a library\n' > libnoop_handler.so
torch-model-archiver --model-name noop_lsp --version 1.0 --runtime LSP \
  --handler libnoop_handler:NoopHandler --export-path "$out" --force
rm -r "$work"
