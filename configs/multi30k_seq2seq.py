"""German into English, captions of photographs."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="translation.Translation", label_smoothing=0.1, beam_size=5, length_penalty=1.0),
            model=dict(
                name="seq2seq.Seq2Seq",
                hidden_size=256,
                tie_embeddings="all",
                input_dropout_rate=0.3,
                output_dropout_rate=0.3,
            ),
            data=dict(
                name="bitext.pairs",
                source="multi30k",
                languages=("de", "en"),
                test="test_2016_flickr",
                source_unit="subword",
                target_unit="subword",
                joint_vocabulary=True,
                vocab_size=8000,
                max_length=60,
                batch_size=64,
            ),
            optim=dict(name="adam", learning_rate=1e-3, schedule="cosine", warmup_steps=200, clip_norm=1.0),
            train=dict(num_steps=9000, log_every=50, eval_every=1000, checkpoint_every=1000),
        )
    )
