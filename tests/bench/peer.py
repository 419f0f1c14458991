"""mlx_lm.server with a fast BLAS: `python -m tests.bench.peer --model FOLDER --port N`."""

from actors.engine.blas import load_fast_blas

if __name__ == "__main__":
    load_fast_blas()
    from mlx_lm.server import main

    main()
