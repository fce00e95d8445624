#include "verify/behaviour/challenge_set.h"

#include <charconv>

#include <fmt/format.h>

#include "base/check.h"
#include "formats/json_reader.h"

namespace sluice::verify::behaviour {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMostParts = 1u << 20;

Json ModelJson(const RunTerms::Model& model) {
  return {{"config_hash", kernels::ToHex(model.config)},
          {"tokenizer_hash", kernels::ToHex(model.tokenizer)},
          {"headers_hash", kernels::ToHex(model.headers)}};
}

}  // namespace

Json TermsJson(const RunTerms& terms) {
  Json json;
  json["generator"] = terms.prompts ? kOrderGenerator : kDrawGenerator;
  json["gamma"] = terms.settings.gamma;
  json["alpha"] = terms.settings.alpha;
  json["challenges"] = terms.challenges;
  json["challenge_tokens"] = terms.prompts ? Json(nullptr) : Json(terms.challenge_tokens);
  json["population"] = terms.prompts ? Json(terms.settings.population) : Json(nullptr);
  json["prompts_sha256"] = terms.prompts ? Json(kernels::ToHex(*terms.prompts)) : Json(nullptr);
  json["drawable_tokens"] = terms.drawable;
  json["vocabulary_sha256"] = kernels::ToHex(terms.vocabulary);
  json["a"] = ModelJson(terms.a);
  json["b"] = ModelJson(terms.b);
  return json;
}

Commitment Commit(const Nonce& key, Json terms) {
  Commitment commitment{.key = key, .terms = std::move(terms)};
  commitment.run_id = kernels::HashText(commitment.terms.dump());
  commitment.hash =
      kernels::HashText(Json{{"key", NonceText(key)}, {"run_id", kernels::ToHex(commitment.run_id)}}.dump());
  return commitment;
}

std::vector<uint32_t> DrawChallenge(const Commitment& commitment, uint64_t index, uint64_t num_tokens,
                                    std::span<const uint32_t> drawable) {
  KeyedStream stream(commitment.key, kDrawGenerator, fmt::format("{} {}", kernels::ToHex(commitment.run_id), index));
  std::vector<uint32_t> ids(num_tokens);
  for (uint32_t& id : ids) id = drawable[stream.Below(drawable.size())];
  return ids;
}

Result<std::vector<Prompt>> SplitPrompts(const std::string& text, const std::string& name) {
  std::vector<Prompt> prompts;
  size_t at = text.starts_with("\xef\xbb\xbf") ? 3 : 0;
  for (uint64_t line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string prompt = text.substr(at, end - at);
    at = end + 1;
    if (prompt.ends_with('\r')) prompt.pop_back();
    if (prompt.empty()) continue;
    if (const auto wrong = formats::FirstInvalidUtf8(prompt)) {
      return FailIn(ErrorCode::kCorrupt, name, fmt::format("line {} is not UTF-8 at byte {}", line, *wrong));
    }
    prompts.push_back({line, std::move(prompt)});
  }
  if (prompts.empty()) return FailIn(ErrorCode::kCorrupt, name, "has no prompt: want one in each line");
  return prompts;
}

Result<Share> ParseShare(const std::string& text) {
  Share share;
  const char* const end = text.data() + text.size();
  const auto part = std::from_chars(text.data(), end, share.part);
  if (part.ec == std::errc() && part.ptr != end && *part.ptr == '/') {
    const auto parts = std::from_chars(part.ptr + 1, end, share.parts);
    if (parts.ec == std::errc() && parts.ptr == end && share.part >= 1 && share.part <= share.parts &&
        share.parts <= kMostParts) {
      return share;
    }
  }
  return Fail(ErrorCode::kUsage, fmt::format("--part {}: want I/N with I from 1 to N, as in 2/5", text));
}

}  // namespace sluice::verify::behaviour
