"""The LSTM language models of Zaremba et al. on the Penn Treebank: small, medium, large.

Source: Zaremba, Sutskever, Vinyals, "Recurrent neural network regularization", 2014, section 4.1 and table 1:
  perplexity on validation and test 120.7 / 114.5 (small), 86.2 / 82.7 (medium), 82.2 / 78.4 (large).
  Their loss is the sum over the steps of a window where ours is the mean over its tokens, so their learning rate is
  multiplied by the window and their clipping divided by it: the same updates.
Command: python -m cnnrnn.main --config configs/ptb_zaremba.py:small --workdir runs/ptb_small
  --config.data.manual_dir=FOLDER, where FOLDER holds ptb.train.txt, ptb.valid.txt and ptb.test.txt; likewise for
  :medium and :large
Hardware: small: two CPU cores, 81 minutes while other work ran beside it, 0.7 GB. The others need a GPU.
Score: small: perplexity 120.7 on validation, 115.4 on test (one seed, 0; python experiments/zaremba/run.py --size small
  --config.data.manual_dir=FOLDER). Medium and large have not been trained to their end.
"""

from ml_collections import ConfigDict

SIZES = {
    "small": dict(hidden_size=200, dropout=0.0, init_scale=0.1, window=20, flat=4, decay=1 / 2, epochs=13, clip=5.0),
    "medium": dict(
        hidden_size=650, dropout=0.5, init_scale=0.05, window=35, flat=6, decay=1 / 1.2, epochs=39, clip=5.0
    ),
    "large": dict(
        hidden_size=1500, dropout=0.65, init_scale=0.04, window=35, flat=14, decay=1 / 1.15, epochs=55, clip=10.0
    ),
}


def get_config(size: str = "small") -> ConfigDict:
    """The config of a size; every section is the keyword arguments of what it names."""
    if size not in SIZES:
        raise ValueError(f"there is no size {size}, only {', '.join(SIZES)}")
    s = SIZES[size]
    epoch = -(-46_480 // s["window"])  # 929,589 tokens in 20 rows
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="language_modelling.LanguageModelling"),
            model=dict(
                name="recurrent_lm.RecurrentLM",
                hidden_size=s["hidden_size"],
                num_layers=2,
                init_scale=s["init_scale"],
                forget_bias=0.0,
                input_dropout_rate=s["dropout"],
                layer_dropout_rate=s["dropout"],
                output_dropout_rate=s["dropout"],
            ),
            data=dict(
                name="text.stream",
                source="penn_treebank",
                unit="whitespace",
                batch_size=20,
                window=s["window"],
                data_dir=None,
                manual_dir=None,
            ),
            optim=dict(
                name="sgd",
                learning_rate=1.0 * s["window"],
                schedule="step",
                transition_begin=(s["flat"] - 1) * epoch,
                transition_steps=epoch,
                decay_rate=s["decay"],
                clip_norm=s["clip"] / s["window"],
            ),
            train=dict(num_steps=s["epochs"] * epoch, log_every=200, eval_every=epoch, checkpoint_every=epoch // 2),
        )
    )
