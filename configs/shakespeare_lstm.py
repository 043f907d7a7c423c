"""A character LSTM on tiny-shakespeare: the first 90 % of its 1,115,394 characters to train, the last 10 % to validate.

Source: Karpathy, "The unreasonable effectiveness of recurrent neural networks", 2015, for the task and the text. No
  LSTM has a published score on this split; a Transformer of 10.7 M parameters reached 1.4697 nats (nanoGPT, 3 minutes
  of an A100). The net: one layer of 512 (1.35 M parameters), dropout before the softmax and of the recurrent weights
  (Merity et al. 2017).
Command: python -m cnnrnn.main --config configs/shakespeare_lstm.py --workdir runs/shakespeare_lstm
  (with --config.data.manual_dir=FOLDER if input.txt is at hand)
Hardware: two CPU cores, 26 minutes (tests ran beside it), 0.9 GB.
Score: validation loss 1.457 nats a character, which is 2.103 bits or a perplexity of 4.295 (one seed, 0; its curve was
  still falling at the end of its schedule, not rising).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="language_modelling.LanguageModelling"),
            model=dict(
                name="recurrent_lm.RecurrentLM",
                hidden_size=512,
                num_layers=1,
                embed_size=128,
                output_dropout_rate=0.4,
                weight_dropout_rate=0.2,
            ),
            data=dict(
                name="text.stream",
                source="tiny_shakespeare",
                batch_size=64,
                window=64,
                data_dir=None,
                manual_dir=None,
            ),
            optim=dict(name="adam", learning_rate=4e-3, schedule="cosine", warmup_steps=100, clip_norm=1.0),
            train=dict(num_steps=2200, log_every=50, eval_every=275, checkpoint_every=275),
        )
    )
