"""Makes a small Qwen2 model with random weights, its tokenizer and its chat template, all on this machine.

Usage, inside SGLang's environment: `python make_model.py FOLDER`. The seed is fixed, so one environment always makes
the same model. Its answers mean nothing; they are varied, repeat themselves at temperature 0, and count tokens as any
other model does, which is what serving and billing are tested with."""

# mypy: disable-error-code="import-not-found"
# SGLang's environment is not the one that types are checked in.

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SEED = 20261121
VOCABULARY = 4096
CONTEXT_LENGTH = 8192
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% if tools %}<|im_start|>system\n# Tools\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% elif message.content %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on the prose that every Python carries."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    prose = (text.encode("ascii", "ignore").decode() for _, text in sorted(pydoc_data.topics.topics.items()))
    tokenizer.train_from_iterator(prose, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def make_weights(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """Random weights, wide enough (0.2) that the model does not repeat one token for ever."""
    torch.manual_seed(SEED)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT_LENGTH,
            initializer_range=0.2,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
            dtype="bfloat16",
        )
    )
    # Tokens that are no readable text on their own (turn marks, bytes inside a character) stay improbable.
    unreadable = [
        index
        for index in range(len(tokenizer))
        if "�" in tokenizer.decode([index]) or tokenizer.decode([index]) in {PAD, START}
    ]
    with torch.no_grad():
        model.lm_head.weight[unreadable] = 0.0
    return model.to(torch.bfloat16)


def main() -> None:
    """Writes the model beside FOLDER and moves it there whole, so that a half-made one is never found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(unfinished)
    make_weights(tokenizer).save_pretrained(unfinished)
    (unfinished / "generation_config.json").write_text(
        json.dumps({"eos_token_id": tokenizer.convert_tokens_to_ids(END), "do_sample": True})
    )
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    print(f"made {folder}")


if __name__ == "__main__":
    main()
