#include "verify/api_model/answer_record.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/http_client.h"

namespace sluice::verify::api_model {
namespace {

using Json = nlohmann::ordered_json;

tl::unexpected<Error> Bad(uint64_t line, std::string_view what) {
  return Fail(ErrorCode::kCorrupt, fmt::format("line {}: {}", line, what));
}

std::string Line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

bool IsNatural(const Json& json) { return json.is_number_unsigned(); }

}  // namespace

kernels::Hash256 AnswerRequest::Hash() const {
  Json json;
  json["tokens"] = challenge;
  json["positions"] = positions;
  json["ids"] = Json::array();
  for (const auto& ids : coarse_ids) json["ids"].push_back(ids);
  return kernels::HashText(json.dump());
}

AnswerWriter::AnswerWriter(const std::string& ref, const std::string& key, const std::string& run_id,
                           const ApiOffer& offer, const std::string& answering_model, const std::string& secret) {
  Json head;
  head["schema"] = kAnswersSchema;
  head["ref"] = ref;
  head["key"] = key;
  head["run_id"] = run_id;
  head["model"] = io::BlankOut(answering_model, secret, 512);
  head["shape"] = ShapeName(offer.shape);
  head["prompt_ids"] = offer.prompt_ids;
  head["answer_ids"] = offer.answer_ids;
  head["top"] = offer.num_top;
  head["scores_ids"] = offer.scores_ids;
  head["seconds_a_request"] = offer.seconds_a_request;
  head["floor"] = offer.mean_rest;
  head["probed_positions"] = offer.num_probed;
  text_ = Line(head);
}

void AnswerWriter::Add(const AnswerRequest& request, std::span<const PartialDistribution> answers) {
  Json line;
  line["request"] = kernels::ToHex(request.Hash());
  line["caps"] = Json::array();
  line["ids"] = Json::array();
  line["probabilities"] = Json::array();
  for (const PartialDistribution& answer : answers) {
    line["caps"].push_back(answer.cap);
    Json ids = Json::array(), probabilities = Json::array();
    for (const auto& [id, probability] : answer.known) {
      ids.push_back(id);
      probabilities.push_back(probability);
    }
    line["ids"].push_back(std::move(ids));
    line["probabilities"].push_back(std::move(probabilities));
  }
  text_ += Line(line);
  ++num_answers_;
}

std::string AnswerWriter::Text() const {
  Json end;
  end["answers"] = num_answers_;
  end["sha256"] = kernels::ToHex(kernels::HashText(text_));
  return text_ + Line(end);
}

Result<AnswerRecord> AnswerRecord::Parse(std::string_view text) {
  AnswerRecord record;
  if (text.empty() || text.back() != '\n')
    return Fail(ErrorCode::kCorrupt, "it was cut off, or is no record of answers");
  uint64_t line_number = 0;
  bool ended = false;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    const Json line = Json::parse(text.substr(begin, end - begin), nullptr, false);
    ++line_number;
    if (!line.is_object()) return Bad(line_number, "no object of JSON");
    if (ended) return Bad(line_number, "it goes on behind its closing line");
    if (line_number == 1) {
      const auto is = [&](const char* key, auto check) { return line.contains(key) && check(line.at(key)); };
      const auto is_bool = [](const Json& json) { return json.is_boolean(); };
      const auto is_number = [](const Json& json) { return json.is_number(); };
      const auto is_text = [](const Json& json) { return json.is_string(); };
      if (!is("schema", is_text) || line.at("schema") != kAnswersSchema)
        return Bad(1, "no record of a server's answers");
      if (!is("ref", is_text) || !is("key", is_text) || !is("run_id", is_text) || !is("model", is_text) ||
          !is("shape", is_text) || !is("prompt_ids", is_bool) || !is("answer_ids", is_bool) ||
          !is("scores_ids", is_bool) || !is("top", IsNatural) || !is("seconds_a_request", is_number) ||
          !is("floor", is_number) || !is("probed_positions", IsNatural)) {
        return Bad(1, "what the server offers is missing");
      }
      const auto shape = ShapeByName(line.at("shape").get<std::string>());
      if (!shape) return Bad(1, "an unknown shape of answers");
      record.ref_ = line.at("ref").get<std::string>();
      record.key_ = line.at("key").get<std::string>();
      record.run_id_ = line.at("run_id").get<std::string>();
      record.answering_model_ = line.at("model").get<std::string>();
      record.offer_ = {.shape = *shape,
                       .prompt_ids = line.at("prompt_ids").get<bool>(),
                       .answer_ids = line.at("answer_ids").get<bool>(),
                       .num_top = line.at("top").get<uint64_t>(),
                       .scores_ids = line.at("scores_ids").get<bool>(),
                       .seconds_a_request = line.at("seconds_a_request").get<double>(),
                       .mean_rest = line.at("floor").get<double>(),
                       .num_probed = line.at("probed_positions").get<uint64_t>()};
    } else if (line.contains("sha256")) {
      const Json& hash = line.at("sha256");
      if (!hash.is_string() || hash.get<std::string>() != kernels::ToHex(kernels::HashText(text.substr(0, begin))) ||
          !line.contains("answers") || line.at("answers") != record.answers_.size()) {
        return Bad(line_number, "the lines above are not those that it was closed over: it was changed");
      }
      ended = true;
    } else {
      for (const char* key : {"caps", "ids", "probabilities"}) {
        if (!line.contains(key) || !line.at(key).is_array())
          return Bad(line_number, fmt::format("'{}' is missing", key));
      }
      const Json &caps = line.at("caps"), &ids = line.at("ids"), &probabilities = line.at("probabilities");
      if (!line.contains("request") || !line.at("request").is_string() || ids.size() != caps.size() ||
          probabilities.size() != caps.size()) {
        return Bad(line_number, "no answer");
      }
      Answer answer{line.at("request").get<std::string>(), {}};
      for (size_t i = 0; i < caps.size(); ++i) {
        if (!caps[i].is_number() || !ids[i].is_array() || !probabilities[i].is_array() ||
            ids[i].size() != probabilities[i].size()) {
          return Bad(line_number, "no list of tokens");
        }
        PartialDistribution distribution{.known = {}, .cap = caps[i].get<double>()};
        for (size_t j = 0; j < ids[i].size(); ++j) {
          if (!IsNatural(ids[i][j]) || ids[i][j].get<uint64_t>() > UINT32_MAX || !probabilities[i][j].is_number()) {
            return Bad(line_number, "no token");
          }
          distribution.known.push_back({ids[i][j].get<uint32_t>(), probabilities[i][j].get<double>()});
        }
        if (auto good = CheckPartial(distribution); !good) return Bad(line_number, good.error().message);
        answer.positions.push_back(std::move(distribution));
      }
      record.answers_.push_back(std::move(answer));
    }
    begin = end + 1;
  }
  if (!ended) return Bad(line_number, "its closing line is missing: it was cut off");
  return record;
}

Result<std::vector<PartialDistribution>> AnswerRecord::Next(const AnswerRequest& request) {
  if (next_ == answers_.size()) {
    return Fail(ErrorCode::kCorrupt, fmt::format("the record has {} answers, and one more was asked for", next_));
  }
  const Answer& answer = answers_[next_];
  if (answer.request != kernels::ToHex(request.Hash()) || answer.positions.size() != request.positions.size()) {
    return Fail(ErrorCode::kCorrupt,
                fmt::format("answer {} of the record is one to another request: other models, key or options", next_));
  }
  ++next_;
  return answer.positions;
}

}  // namespace sluice::verify::api_model
