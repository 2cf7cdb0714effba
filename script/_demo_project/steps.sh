set -e
fsd run -o prepared --code prepare.py -- python prepare.py
fsd run -S "shrink=$1" -o model.npy --code train.py -- python train.py
fsd run --code evaluate.py -- python evaluate.py
