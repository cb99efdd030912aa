#!/usr/bin/env bash
# Runs the tests on an emulated Cortex-A9, the processor of a PYNQ-Z1, with Debian's own Python,
# numpy and protobuf for it; then a native client against an agent that runs there.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/build/armhf-root
site=$PWD/build/armhf-site
packages=python3,python3-numpy,python3-protobuf,python3-pytest,python3-hypothesis

for tool in mmdebstrap qemu-arm-static; do
    command -v "$tool" >/dev/null || {
        echo >&2 "$tool is missing: sudo apt-get install mmdebstrap qemu-user-static"
        exit 1
    }
done

make_root() {
    local new=$root.new as_root=() mirror libraries
    [[ $(id -u) == 0 ]] || as_root=(sudo)
    # The machine's own Debian mirror, if it has one, without the updates that may lag behind it.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
    "${as_root[@]}" rm -rf "$new" "$root"
    mkdir -p build
    "${as_root[@]}" mmdebstrap --quiet --variant=extract --architectures=armhf --mode=root \
        --include="$packages" bookworm "$new" ${mirror:+"$mirror"}
    "${as_root[@]}" chown -R "$(id -u):$(id -g)" "$new"
    # No maintainer script has run: do what those of the two libraries do, as numpy needs it.
    libraries=$new/usr/lib/arm-linux-gnueabihf
    ln -s blas/libblas.so.3 lapack/liblapack.so.3 "$libraries"
    # The emulator prefers the root's files to the machine's: leave it programs and libraries only.
    rm -rf "$new"/{dev,etc,tmp,var}
    echo "$packages" >"$new/.complete"
    mv "$new" "$root"
}

[[ $(cat "$root/.complete" 2>/dev/null) == "$packages" ]] || make_root
.venv/bin/pip install --quiet --no-deps --upgrade --target "$site" .

# The default model would execute instructions that a Cortex-A9 does not have.
python=(env -u PYTHONDONTWRITEBYTECODE PYTHONPATH="$site"
    qemu-arm-static -cpu cortex-a9 -L "$root" "$root/usr/bin/python3.11")

"${python[@]}" -c 'import os, sys, numpy, google.protobuf as protobuf
print(f"== {os.uname().machine}, Python {sys.version.split()[0]}, numpy {numpy.__version__},"
      f" protobuf {protobuf.__version__}")'
"${python[@]}" -m pytest -q -p no:cacheprovider --hypothesis-profile=emulated \
    -m 'not subprocess' tests/protocol tests/agent tests/unit

echo "== native client, emulated agent"
VACCEL_TEST_AGENT_COMMAND="${python[*]} -m vaccel.cli.agent" \
    .venv/bin/python -m pytest -q -p no:cacheprovider tests/interop/test_armhf.py
