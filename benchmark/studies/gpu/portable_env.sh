# Use the unpacked environment in this shell: `. env.sh [SITE_PACKAGES]`, with bash, then work in the project's checkout.
# SITE_PACKAGES: where pip installed NVIDIA's CUDA wheels; by default where the first python3 finds them.
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
    echo "env.sh: no CUDA wheels found, LD_LIBRARY_PATH is unchanged: give their site-packages, . env.sh FOLDER" >&2
fi
unset nemo_triton_nvidia nemo_triton_folder
export PYTHONPATH=.
export PATH=@PREFIX@/bin:$PATH
