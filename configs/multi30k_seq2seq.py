"""German into English: captions of photographs.

Source: Multi30k, task 1 (Elliott et al. 2016): 29,000 pairs to train, 1,014 to validate, 1,000 to test (2016, Flickr).
Command: python -m cnnrnn.main --config configs/multi30k_seq2seq.py --workdir runs/multi30k
  --config.data.source=FOLDER, where FOLDER holds train.de.gz, train.en.gz, val.de.gz, val.en.gz,
  test_2016_flickr.de.gz and test_2016_flickr.en.gz, raw text; likewise for :tokenized, with the files
  *.lc.norm.tok.de and *.lc.norm.tok.en, which are lowercased and tokenized
Hardware: two CPU cores, 17 minutes while other work ran beside it, 19 for :tokenized.
Score: from German to English, test 2016, one seed, 0, beam of 5: BLEU 41.63, chrF 61.22 on raw text, case kept
  (nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0); :tokenized, which is lowercased, BLEU 42.36, chrF 61.97
  (nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:2.6.0). See experiments/multi30k/README.md.
"""

from ml_collections import ConfigDict

LANGUAGES = {"raw": ("de", "en"), "tokenized": ("lc.norm.tok.de", "lc.norm.tok.en")}


def get_config(text: str = "raw") -> ConfigDict:
    """The config of a form of the text; every section is the keyword arguments of what it names."""
    if text not in LANGUAGES:
        raise ValueError(f"there is no text {text}, only {', '.join(LANGUAGES)}")
    return ConfigDict(
        dict(
            seed=0,
            task=dict(
                name="translation.Translation",
                label_smoothing=0.1,
                beam_size=5,
                length_penalty=1.0,
                bleu_tokenize="13a" if text == "raw" else "none",
            ),
            model=dict(
                name="seq2seq.Seq2Seq",
                hidden_size=256,
                tie_embeddings="all",
                input_dropout_rate=0.3,
                output_dropout_rate=0.4,
            ),
            data=dict(
                name="bitext.pairs",
                source="multi30k",
                languages=LANGUAGES[text],
                test="test_2016_flickr",
                source_unit="subword",
                target_unit="subword",
                joint_vocabulary=True,
                vocab_size=8000,
                max_length=60,
                batch_size=64,
            ),
            optim=dict(name="adam", learning_rate=1.5e-3, schedule="cosine", warmup_steps=200, clip_norm=1.0),
            train=dict(
                num_steps=6800,  # 15 passes
                log_every=50,
                eval_every=340,
                decode_every=1360,
                checkpoint_every=340,
                max_to_keep=8,
                best_metric="bleu",
                best_mode="max",
            ),
        )
    )
