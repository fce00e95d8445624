#include "tokenizer/gguf_vocabulary.h"

#include <fmt/format.h>

namespace sluice::tokenizer {
namespace {

// Texts that llama.cpp takes for control tokens whatever their type says. (The first seven lists of its loader look for
// one token each and stop at the first found, in no fixed order; a vocabulary with two of one list has been seen
// nowhere.)
constexpr std::string_view kControlTexts[] = {"<|eot_id|>",
                                              "<|im_end|>",
                                              "<|end|>",
                                              "<end_of_turn>",
                                              "<|endoftext|>",
                                              "<|end_of_text|>",
                                              "<EOT>",
                                              "_<EOT>",
                                              "[EOT]",
                                              "<｜end▁of▁sentence｜>",
                                              "<|eom_id|>",
                                              "<|fim_prefix|>",
                                              "<fim-prefix>",
                                              "<fim_prefix>",
                                              "<｜fim▁begin｜>",
                                              "<PRE>",
                                              "▁<PRE>",
                                              "<|code_prefix|>",
                                              "<|prefix|>",
                                              "<|fim_suffix|>",
                                              "<fim-suffix>",
                                              "<fim_suffix>",
                                              "<｜fim▁hole｜>",
                                              "<SUF>",
                                              "▁<SUF>",
                                              "<|code_suffix|>",
                                              "<|suffix|>",
                                              "<|fim_middle|>",
                                              "<fim-middle>",
                                              "<fim_middle>",
                                              "<｜fim▁end｜>",
                                              "<MID>",
                                              "▁<MID>",
                                              "<|code_middle|>",
                                              "<|middle|>",
                                              "<|fim_pad|>",
                                              "<fim-pad>",
                                              "<fim_pad>",
                                              "<PAD>",
                                              "[PAD]",
                                              "<|fim_repo|>",
                                              "<|repo_name|>",
                                              "<fim-repo>",
                                              "<REPO>",
                                              "<reponame>",
                                              "<|file_sep|>",
                                              "<end_of_utterance>",
                                              "<|return|>",
                                              "<|call|>",
                                              "<|flush|>",
                                              "<|calls|>",
                                              "</s>",
                                              "[EOS]",
                                              "<eos>",
                                              "<turn|>",
                                              "<|tool_response>",
                                              "[e~["};
// And those that it takes for tokens that users write.
constexpr std::string_view kUserTexts[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

tl::unexpected<Error> Wrong(const formats::GgufFile& file, ErrorCode code, std::string_view key, std::string message) {
  return Fail(Error{code, std::move(message), {file.source()->name(), GgufTokenizerKey(key)}});
}

}  // namespace

std::string GgufTokenizerKey(std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); }

Result<GgufVocabulary> ReadGgufVocabulary(const formats::GgufFile& file) {
  const formats::GgufKey* key = file.FindKey(GgufTokenizerKey("tokens"));
  if (key == nullptr) {
    return Wrong(file, ErrorCode::kCorrupt, "tokens", "is missing; the file is damaged or not whole");
  }
  if (key->count > Vocabulary::kMaxPieces) {
    return Wrong(file, ErrorCode::kUnsupported, "tokens",
                 fmt::format("has {} tokens; more than {} are not supported yet", key->count, Vocabulary::kMaxPieces));
  }
  SLUICE_ASSIGN(const formats::GgufStrings tokens, file.ReadStrings(*key));
  auto vocabulary = std::make_shared<Vocabulary>();
  for (uint32_t id = 0; id < tokens.size(); ++id) {
    const std::string text = tokens[id].empty() ? fmt::format("[EMPTY_{}]", id) : std::string(tokens[id]);
    if (!vocabulary->Set(id, text)) {
      return Wrong(
          file, ErrorCode::kCorrupt, "tokens",
          fmt::format("has the text \"{}\" twice, as tokens {} and {}", text, vocabulary->Find(text).value_or(0), id));
    }
  }
  if (vocabulary->size() == 0) return Wrong(file, ErrorCode::kCorrupt, "tokens", "is empty");
  std::vector<int64_t> types(vocabulary->size(), kNormal);
  if (const formats::GgufKey* type = file.FindKey(GgufTokenizerKey("token_type"))) {
    SLUICE_ASSIGN(std::vector<int64_t> read, file.ReadIntegers(*type));
    if (read.size() < types.size()) {
      return Wrong(file, ErrorCode::kCorrupt, "token_type",
                   fmt::format("has {} elements for {} tokens; the file is damaged", read.size(), types.size()));
    }
    read.resize(types.size());
    types = std::move(read);
  }
  for (const std::string_view text : kControlTexts) {
    if (const auto id = vocabulary->Find(text)) types[*id] = kControl;
  }
  for (const std::string_view text : kUserTexts) {
    if (const auto id = vocabulary->Find(text)) types[*id] = kUserDefined;
  }
  return GgufVocabulary{std::move(vocabulary), std::move(types)};
}

}  // namespace sluice::tokenizer
