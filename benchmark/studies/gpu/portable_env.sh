# Activate the unpacked environment in bash, in the project's checkout: `. env.sh [SITE_PACKAGES]`.
# SITE_PACKAGES: folder of NVIDIA's CUDA wheels; by default the one that the first python3 in PATH finds.
if [ -d "${1:-}/nvidia" ]; then
    nemo_triton_nvidia=$1/nvidia
else
    nemo_triton_nvidia=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2> /dev/null) || nemo_triton_nvidia=
fi
if [ -n "$nemo_triton_nvidia" ]; then
    for nemo_triton_folder in "$nemo_triton_nvidia"/*/lib; do
        [ ! -d "$nemo_triton_folder" ] || LD_LIBRARY_PATH=$nemo_triton_folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    done
    export LD_LIBRARY_PATH
else
    echo "env.sh: no CUDA wheels found, LD_LIBRARY_PATH is unchanged; name their site-packages: . env.sh FOLDER" >&2
fi
unset nemo_triton_nvidia nemo_triton_folder
export PYTHONPATH=.
export PATH=@PREFIX@/bin:$PATH
