// AnswerRecord: what a server answered, kept so that a verdict can be worked out again without asking it. Lines of
// JSON, one for each answer, in the order in which they were asked for (docs/formats/api_answers.md). No key is in it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/sha256.h"
#include "verify/api_model/api_model.h"
#include "verify/api_model/partial_distribution.h"

namespace sluice::verify::api_model {

inline constexpr char kAnswersSchema[] = "sluice/api_answers/v1";

// What was asked for: a challenge, its positions, and ids beyond the lists (none: bounds).
struct AnswerRequest {
  std::span<const uint32_t> challenge;
  std::span<const uint32_t> positions;
  std::span<const std::vector<uint32_t>> coarse_ids;
  kernels::Hash256 Hash() const;
};

// Collects answers as text, some 25 bytes for each token of each list.
class AnswerWriter {
 public:
  // key, run_id: of the run's commitment, in hexadecimal digits. `secret` (of the server) is blanked out, wherever a
  // server put it.
  AnswerWriter(const std::string& ref, const std::string& key, const std::string& run_id, const ApiOffer& offer,
               const std::string& answering_model, const std::string& secret);
  void Add(const AnswerRequest& request, std::span<const PartialDistribution> answers);
  // All of it, with its closing line. The same answers give the same bytes.
  std::string Text() const;
  uint64_t size_bytes() const { return text_.size(); }

 private:
  std::string text_;
  uint64_t num_answers_ = 0;
};

class AnswerRecord {
 public:
  // kCorrupt: no record, one that was cut off or changed (its closing line has the hash of all others), or
  // probabilities that are none.
  static Result<AnswerRecord> Parse(std::string_view text);

  const std::string& ref() const { return ref_; }
  const std::string& key() const { return key_; }
  const std::string& run_id() const { return run_id_; }
  const ApiOffer& offer() const { return offer_; }
  const std::string& answering_model() const { return answering_model_; }
  uint64_t num_answers() const { return answers_.size(); }
  // Answers one after another; kCorrupt where the next one is to another request, or there is none.
  Result<std::vector<PartialDistribution>> Next(const AnswerRequest& request);

 private:
  struct Answer {
    std::string request;
    std::vector<PartialDistribution> positions;
  };
  std::string ref_, key_, run_id_, answering_model_;
  ApiOffer offer_;
  std::vector<Answer> answers_;
  size_t next_ = 0;
};

}  // namespace sluice::verify::api_model
