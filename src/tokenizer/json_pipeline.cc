#include "tokenizer/json_pipeline.h"

#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "tokenizer/char_class.h"
#include "tokenizer/metaspace.h"
#include "tokenizer/precompiled.h"
#include "tokenizer/utf8.h"

namespace sluice::tokenizer {
namespace {

constexpr int kMaxDepth = 16;  // of sequences in sequences

tl::unexpected<Error> Unknown(const JsonPart& part, std::string_view kind, std::string_view type) {
  return part.Unsupported(fmt::format("is a {} of type {}, which is not supported yet", kind, type));
}

// {"String": "a"} or {"Regex": "a+"}.
struct Pattern {
  std::optional<std::string> text;  // of a String
  std::optional<Regex> regex;       // of either
};
Result<Pattern> ReadPattern(const JsonPart& part) {
  SLUICE_ASSIGN(const JsonPart pattern, part.Object("pattern"));
  Pattern read;
  if (pattern.Has("String")) {
    SLUICE_ASSIGN(read.text, pattern.String("String"));
    read.regex = Regex::Literal(*read.text);
    return read;
  }
  SLUICE_ASSIGN(const std::string expression, pattern.String("Regex"));
  auto regex = Regex::Compile(expression);
  if (!regex) return Fail(pattern.In(std::move(regex).error()));
  read.regex = std::move(*regex);
  return read;
}

Result<std::string> OneCharacter(const JsonPart& part, const char* key) {
  SLUICE_ASSIGN(std::string text, part.String(key));
  if (text.empty() || CodePointAt(text, 0).size_bytes != text.size()) {
    return part.Corrupt(fmt::format("\"{}\" is not one character", key));
  }
  return text;
}

Result<SplitBehaviour> ReadBehaviour(const JsonPart& part, std::optional<std::string> otherwise) {
  SLUICE_ASSIGN(const std::string name, part.String("behavior", std::move(otherwise)));
  if (name == "Removed") return SplitBehaviour::kRemoved;
  if (name == "Isolated") return SplitBehaviour::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehaviour::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehaviour::kMergedWithNext;
  if (name == "Contiguous") return SplitBehaviour::kContiguous;
  return part.Corrupt(fmt::format("\"behavior\" is \"{}\", which is none of the five that there are", name));
}

Result<PrependScheme> ReadPrependScheme(const JsonPart& part) {
  SLUICE_ASSIGN(const bool add, part.Bool("add_prefix_space", true));  // files of older versions have this key
  SLUICE_ASSIGN(const std::string name, part.String("prepend_scheme", add ? "always" : "never"));
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  return part.Corrupt(fmt::format("\"prepend_scheme\" is \"{}\", not always, first or never", name));
}

Result<std::unique_ptr<const Normalizer>> ReadNormalizerAt(const JsonPart& part, int depth) {
  if (depth > kMaxDepth) return part.Unsupported("is nested too deep");
  SLUICE_ASSIGN(const std::string type, part.String("type"));
  if (type == "Sequence") {
    SLUICE_ASSIGN(const std::vector<JsonPart> inner, part.Array("normalizers"));
    std::vector<std::unique_ptr<const Normalizer>> parts;
    for (const JsonPart& each : inner) {
      SLUICE_ASSIGN(auto read, ReadNormalizerAt(each, depth + 1));
      parts.push_back(std::move(read));
    }
    return MakeSequence(std::move(parts));
  }
  if (type == "NFC") return MakeNormalForm(NormalForm::kNfc);
  if (type == "NFD") return MakeNormalForm(NormalForm::kNfd);
  if (type == "NFKC") return MakeNormalForm(NormalForm::kNfkc);
  if (type == "NFKD") return MakeNormalForm(NormalForm::kNfkd);
  if (type == "Lowercase") return MakeLowercase();
  if (type == "StripAccents") return MakeStripAccents();
  if (type == "Prepend") {
    SLUICE_ASSIGN(std::string text, part.String("prepend"));
    return MakePrepend(std::move(text));
  }
  if (type == "Strip") {
    SLUICE_ASSIGN(const bool left, part.Bool("strip_left"));
    SLUICE_ASSIGN(const bool right, part.Bool("strip_right"));
    return MakeStrip(left, right);
  }
  if (type == "Replace") {
    SLUICE_ASSIGN(Pattern pattern, ReadPattern(part));
    SLUICE_ASSIGN(std::string content, part.String("content"));
    if (pattern.text && !pattern.text->empty()) return MakeReplaceText(std::move(*pattern.text), std::move(content));
    return MakeReplace(std::move(*pattern.regex), std::move(content));
  }
  if (type == "Precompiled") {
    SLUICE_ASSIGN(const std::string map, part.String("precompiled_charsmap"));
    auto bytes = FromBase64(map);
    if (!bytes) return part.Corrupt("\"precompiled_charsmap\" is not base64");
    auto made = MakePrecompiled(std::move(*bytes));
    if (!made) return Fail(part.In(std::move(made).error()));
    return std::move(*made);
  }
  return Unknown(part, "normalizer", type);
}

Result<void> ReadPreTokenizerAt(const JsonPart& part, int depth, PreTokenizerStages* into) {
  if (depth > kMaxDepth) return part.Unsupported("is nested too deep");
  SLUICE_ASSIGN(const std::string type, part.String("type"));
  if (type == "Sequence") {
    SLUICE_ASSIGN(const std::vector<JsonPart> inner, part.Array("pretokenizers"));
    for (const JsonPart& each : inner) SLUICE_TRY(ReadPreTokenizerAt(each, depth + 1, into));
    return {};
  }
  if (into->byte_level) {
    return part.Unsupported(fmt::format("is a pre_tokenizer ({}) behind ByteLevel, which is not supported yet", type));
  }
  const auto add = [into](SplitPattern pattern, SplitBehaviour behaviour) {
    into->stages.push_back(MakeSplit(std::move(pattern), behaviour));
    return Result<void>();
  };
  SplitPattern split;
  if (type == "ByteLevel") {
    into->byte_level = true;
    SLUICE_ASSIGN(const bool prefix, part.Bool("add_prefix_space", true));
    SLUICE_ASSIGN(const bool use_regex, part.Bool("use_regex", true));
    if (prefix) into->stages.push_back(MakePrefixSpace());
    if (!use_regex) return {};
    SLUICE_ASSIGN(Regex regex, Regex::Compile(kGpt2Pattern));
    split.regex = std::move(regex);
    return add(std::move(split), SplitBehaviour::kIsolated);
  }
  if (type == "Split") {
    SLUICE_ASSIGN(Pattern pattern, ReadPattern(part));
    SLUICE_ASSIGN(const SplitBehaviour behaviour, ReadBehaviour(part, std::nullopt));
    SLUICE_ASSIGN(split.invert, part.Bool("invert", false));
    if (pattern.text && pattern.text->empty())
      return part.Unsupported("splits at an empty text, which is not supported yet");
    split.regex = std::move(*pattern.regex);
    return add(std::move(split), behaviour);
  }
  if (type == "Metaspace") {
    SLUICE_ASSIGN(std::string replacement, OneCharacter(part, "replacement"));
    SLUICE_ASSIGN(const PrependScheme scheme, ReadPrependScheme(part));
    SLUICE_ASSIGN(const bool cut, part.Bool("split", true));
    into->stages.push_back(MakeMetaspace(std::move(replacement), scheme, cut));
    return {};
  }
  if (type == "Digits") {
    SLUICE_ASSIGN(const bool individual, part.Bool("individual_digits", false));
    split.character = IsNumeric;
    return add(std::move(split), individual ? SplitBehaviour::kIsolated : SplitBehaviour::kContiguous);
  }
  if (type == "Punctuation") {
    SLUICE_ASSIGN(const SplitBehaviour behaviour, ReadBehaviour(part, "Isolated"));
    split.character = IsPunctuation;
    return add(std::move(split), behaviour);
  }
  if (type == "WhitespaceSplit") {
    split.character = IsSpace;
    return add(std::move(split), SplitBehaviour::kRemoved);
  }
  if (type == "Whitespace") {
    into->stages.push_back(MakeWhitespace());
    return {};
  }
  if (type == "CharDelimiterSplit") {
    SLUICE_ASSIGN(const std::string delimiter, OneCharacter(part, "delimiter"));
    split.delimiter = CodePointAt(delimiter, 0).value;
    return add(std::move(split), SplitBehaviour::kRemoved);
  }
  return Unknown(part, "pre_tokenizer", type);
}

// ["[CLS]", 101]
Result<uint32_t> ReadTokenPair(const JsonPart& part, const char* key) {
  const auto& value = part.value();
  if (!value.contains(key) || !value[key].is_array() || value[key].size() != 2 || !value[key][1].is_number_unsigned() ||
      value[key][1].get<uint64_t>() >= Vocabulary::kMaxPieces) {
    return part.Corrupt(fmt::format("\"{}\" is not a token and its id", key));
  }
  return static_cast<uint32_t>(value[key][1].get<uint64_t>());
}

Result<void> ReadTemplate(const JsonPart& part, SpecialFrame* frame) {
  SLUICE_ASSIGN(const std::vector<JsonPart> items, part.Array("single"));
  SLUICE_ASSIGN(const JsonPart tokens, part.Object("special_tokens"));
  bool behind = false;
  for (const JsonPart& item : items) {
    if (item.Has("Sequence")) {
      SLUICE_ASSIGN(const JsonPart sequence, item.Object("Sequence"));
      SLUICE_ASSIGN(const std::string which, sequence.String("id"));
      if (behind || which.size() != 1 || which[0] != 'A')
        return item.Unsupported("is not the one text of this template, which is not supported yet");
      behind = true;
      continue;
    }
    SLUICE_ASSIGN(const JsonPart special, item.Object("SpecialToken"));
    SLUICE_ASSIGN(const std::string name, special.String("id"));
    SLUICE_ASSIGN(const JsonPart token, tokens.Object(name.c_str()));
    SLUICE_ASSIGN(const std::vector<JsonPart> ids, token.Array("ids"));
    for (const JsonPart& id : ids) {
      if (!id.value().is_number_unsigned() || id.value().get<uint64_t>() >= Vocabulary::kMaxPieces) {
        return id.Corrupt("is not an id");
      }
      (behind ? frame->suffix : frame->prefix).push_back(static_cast<uint32_t>(id.value().get<uint64_t>()));
    }
  }
  if (!behind) return part.Unsupported("has no place for the text, which is not supported yet");
  return {};
}

Result<void> ReadPostProcessorAt(const JsonPart& part, int depth, SpecialFrame* into) {
  if (depth > kMaxDepth) return part.Unsupported("is nested too deep");
  SLUICE_ASSIGN(const std::string type, part.String("type"));
  if (type == "ByteLevel") return {};  // it moves offsets, not ids
  if (type == "Sequence") {
    SLUICE_ASSIGN(const std::vector<JsonPart> inner, part.Array("processors"));
    for (const JsonPart& each : inner) SLUICE_TRY(ReadPostProcessorAt(each, depth + 1, into));
    return {};
  }
  SpecialFrame frame;
  if (type == "TemplateProcessing") {
    SLUICE_TRY(ReadTemplate(part, &frame));
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    SLUICE_ASSIGN(const uint32_t begin, ReadTokenPair(part, "cls"));
    SLUICE_ASSIGN(const uint32_t end, ReadTokenPair(part, "sep"));
    frame = {{begin}, {end}};
  } else {
    return Unknown(part, "post_processor", type);
  }
  // A later one stands around an earlier one.
  into->prefix.insert(into->prefix.begin(), frame.prefix.begin(), frame.prefix.end());
  into->suffix.insert(into->suffix.end(), frame.suffix.begin(), frame.suffix.end());
  return {};
}

Result<void> ReadDecoderAt(const JsonPart& part, int depth, bool* fused, PieceDecoder* into) {
  if (depth > kMaxDepth) return part.Unsupported("is nested too deep");
  SLUICE_ASSIGN(const std::string type, part.String("type"));
  if (type == "Sequence") {
    SLUICE_ASSIGN(const std::vector<JsonPart> inner, part.Array("decoders"));
    for (const JsonPart& each : inner) SLUICE_TRY(ReadDecoderAt(each, depth + 1, fused, into));
    return {};
  }
  DecodeStep step{.type = DecodeStep::Type::kStrip, .a = {}, .b = {}};
  if (type == "Strip") {
    SLUICE_ASSIGN(step.a, OneCharacter(part, "content"));
    SLUICE_ASSIGN(step.start, part.Unsigned("start"));
    SLUICE_ASSIGN(step.stop, part.Unsigned("stop"));
    if (*fused) {
      if (step.stop > 0 || into->strip_count > 0)
        return part.Unsupported("strips the end of the whole text, which is not supported yet");
      into->strip_first = step.a;
      into->strip_count = step.start;
      return {};
    }
  } else if (type == "Fuse") {
    *fused = true;
    return {};
  } else if (*fused) {
    return part.Unsupported(fmt::format("is a decoder ({}) behind Fuse, which is not supported yet", type));
  } else if (type == "ByteLevel") {
    step.type = DecodeStep::Type::kByteLevel;
    *fused = true;  // it gives out one text
  } else if (type == "ByteFallback") {
    step.type = DecodeStep::Type::kByteFallback;
  } else if (type == "Replace") {
    step.type = DecodeStep::Type::kReplace;
    SLUICE_ASSIGN(const Pattern pattern, ReadPattern(part));
    if (!pattern.text || pattern.text->empty())
      return part.Unsupported("replaces by a regular expression, which is not supported yet");
    step.a = *pattern.text;
    SLUICE_ASSIGN(step.b, part.String("content"));
  } else if (type == "Metaspace") {
    step.type = DecodeStep::Type::kMetaspace;
    SLUICE_ASSIGN(step.a, OneCharacter(part, "replacement"));
    SLUICE_ASSIGN(const PrependScheme scheme, ReadPrependScheme(part));
    step.start = scheme == PrependScheme::kNever ? 0 : 1;
  } else {
    return Unknown(part, "decoder", type);
  }
  into->steps.push_back(std::move(step));
  return {};
}

}  // namespace

Result<std::unique_ptr<const Normalizer>> ReadNormalizer(const JsonPart& part) { return ReadNormalizerAt(part, 0); }
Result<void> ReadPreTokenizer(const JsonPart& part, PreTokenizerStages* into) {
  return ReadPreTokenizerAt(part, 0, into);
}
Result<void> ReadPostProcessor(const JsonPart& part, SpecialFrame* into) { return ReadPostProcessorAt(part, 0, into); }
Result<PieceDecoder> ReadDecoder(const JsonPart& part) {
  PieceDecoder decoder;
  bool fused = false;
  SLUICE_TRY(ReadDecoderAt(part, 0, &fused, &decoder));
  return decoder;
}

}  // namespace sluice::tokenizer
