"""AWD-LSTM on the Penn Treebank: every kind of dropout, tied embeddings, NT-ASGD.

Source: Merity, Keskar, Socher, "Regularizing and optimizing LSTM language models", 2017, with
  the settings of the command in the authors' repository (awd-lstm-lm), which states a perplexity of 61.2 on validation
  and 58.8 on test before fine-tuning; 24 M parameters. Left out: windows of random length with a learning rate that
  follows them (all windows have 70 tokens here), and the fine-tuning (60.0 / 57.3 in the paper's table 1).
Command: python -m cnnrnn.main --config configs/ptb_awd_lstm.py --workdir runs/ptb_awd_lstm
  --config.data.manual_dir=FOLDER, where FOLDER holds ptb.train.txt, ptb.valid.txt and ptb.test.txt
Hardware: a GPU; on two CPU cores a pass takes about half an hour, and there are 500.
Score: not measured: it has not been trained to its end. The tests run two steps of it.
"""

from ml_collections import ConfigDict

EPOCH = -(-46_480 // 70)  # steps in a pass: 929,589 tokens in 20 rows, 70 at a time


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="language_modelling.LanguageModelling", activation_reg=2.0, temporal_activation_reg=1.0),
            model=dict(
                name="recurrent_lm.RecurrentLM",
                hidden_size=1150,
                num_layers=3,
                embed_size=400,
                tie_embeddings=True,
                forget_bias=0.0,
                variational_dropout=True,
                embedding_dropout_rate=0.1,
                input_dropout_rate=0.4,
                layer_dropout_rate=0.25,
                output_dropout_rate=0.4,
                weight_dropout_rate=0.5,
            ),
            data=dict(
                name="text.stream",
                source="penn_treebank",
                unit="whitespace",
                batch_size=20,
                window=70,
                data_dir=None,
                manual_dir=None,
            ),
            optim=dict(name="sgd", learning_rate=30.0, clip_norm=0.25, weight_decay=1.2e-6, nonmono=5),
            train=dict(num_steps=500 * EPOCH, log_every=200, eval_every=EPOCH, checkpoint_every=EPOCH),
        )
    )
