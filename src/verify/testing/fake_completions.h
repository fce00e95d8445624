// FakeCompletions: a server of completions inside the test: a small model whose distributions follow from the context
// alone, in each of the shapes of real servers, honest or not. An io::HttpClient, so nothing is sent anywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "io/http_client.h"
#include "verify/api_model/completion.h"
#include "verify/api_model/token_texts.h"

namespace sluice::verify::api_model {

class FakeCompletions final : public io::HttpClient {
 public:
  struct Ways {
    bool echo = true, prompt_lists = false, prompt_ids = true, answer_ids = true, content = false;
    bool echo_is_late = false;  // an echo's lists are those of the next position
    uint64_t max_top = 20;      // more is refused
    double sharpness = 3;       // standard deviation of logits
    double noise = 0;           // of logits, anew for each request
    uint64_t seed = 1;
    std::string name = "model";
    // Last word on what is answered.
    std::function<void(nlohmann::json*)> lie = {};
    std::function<Result<io::HttpResponse>()> fail = {};
  };
  static constexpr uint32_t kVocabulary = 60;

  explicit FakeCompletions(Ways ways) : ways_(std::move(ways)) {}

  // Ids 50 and 51 look alike, 52 looks like nothing.
  static std::string TextOf(uint32_t id) { return id == 51 ? "t50" : id == 52 ? "" : fmt::format("t{}", id); }
  static TokenTexts Texts() {
    std::vector<std::vector<std::string>> texts;
    for (uint32_t id = 0; id < kVocabulary; ++id) texts.push_back({TextOf(id)});
    return TokenTexts(texts);
  }
  static std::vector<double> Distribution(std::span<const uint32_t> context, const Ways& ways, uint64_t noise = 0) {
    std::vector<double> p(kVocabulary);
    for (uint32_t id = 0; id < kVocabulary; ++id) {
      uint64_t state = ways.seed * 0x9e3779b97f4a7c15u;
      for (const uint32_t token : context) state = Mix(state ^ (token + 1));
      p[id] = std::exp(ways.sharpness * Normal(Mix(state ^ (uint64_t{id} << 32))) +
                       ways.noise * Normal(Mix(noise ^ Mix(state + id))));
    }
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
    return p;
  }

  uint64_t num_requests() const { return stats_.num_requests; }
  const io::HttpStats& stats() const override { return stats_; }
  const std::vector<std::string>& requests() const { return requests_; }

  Result<io::HttpResponse> Send(const io::HttpRequest& request) override {
    ++stats_.num_requests;
    stats_.seconds += 0.25;
    requests_.push_back(request.json);
    if (ways_.fail) return ways_.fail();
    const auto asked = nlohmann::json::parse(request.json);
    const auto refuse = [&]() -> Result<io::HttpResponse> {
      if (request.accept_refusals) return io::HttpResponse{400, "application/json", "{}"};
      return Fail(ErrorCode::kRead, "HTTP 400");
    };
    const bool echo = asked.value("echo", false), by_ids = asked.value("return_tokens_as_token_ids", false);
    const uint64_t top = asked.at("logprobs").get<uint64_t>();
    if ((echo && !ways_.echo) || (by_ids && !ways_.answer_ids) || top > ways_.max_top) return refuse();
    if (!asked.at("prompt").is_array() || !ways_.prompt_ids) return refuse();
    const auto tokens = asked.at("prompt").get<std::vector<uint32_t>>();
    nlohmann::json answer = {{"model", ways_.name}, {"usage", {{"prompt_tokens", tokens.size()}}}};
    nlohmann::json choice = {{"text", "x"}, {"index", 0}};
    std::vector<uint32_t> all = tokens;
    all.push_back(Likeliest(At(tokens, tokens.size())));
    const size_t first = echo ? 0 : tokens.size();
    nlohmann::json names, values, lists, content;
    for (size_t i = first; i < all.size(); ++i) {
      names.push_back(Name(all[i], by_ids));
      if (i == 0) {
        values.push_back(nullptr);
        lists.push_back(nullptr);
        continue;
      }
      const size_t shown = echo && ways_.echo_is_late ? std::min(i + 1, tokens.size()) : i;
      const std::vector<double> p = At(tokens, shown);
      values.push_back(std::log(p[all[i]]));
      nlohmann::json list = nlohmann::json::object(), entries = nlohmann::json::array();
      for (const uint32_t id : Top(p, top)) {
        list[Name(id, by_ids)] = std::log(p[id]);
        entries.push_back({{"token", TextOf(id)}, {"id", id}, {"logprob", std::log(p[id])}});
      }
      list[Name(all[i], by_ids)] = std::log(p[all[i]]);
      lists.push_back(list);
      content.push_back(
          {{"token", TextOf(all[i])}, {"id", all[i]}, {"logprob", std::log(p[all[i]])}, {"top_logprobs", entries}});
    }
    if (ways_.content) {
      choice["logprobs"] = {{"content", content}};
    } else {
      choice["logprobs"] = {{"tokens", names}, {"token_logprobs", values}, {"top_logprobs", lists}};
    }
    if (ways_.prompt_lists && asked.contains("prompt_logprobs")) {
      nlohmann::json prompt = nlohmann::json::array({nullptr});
      for (size_t i = 1; i < tokens.size(); ++i) {
        const std::vector<double> p = At(tokens, i);
        nlohmann::json list;
        for (const uint32_t id : Top(p, top)) list[std::to_string(id)] = {{"logprob", std::log(p[id])}, {"rank", 1}};
        list[std::to_string(tokens[i])] = {{"logprob", std::log(p[tokens[i]])}};
        prompt.push_back(list);
      }
      choice["prompt_logprobs"] = prompt;
    }
    answer["choices"] = nlohmann::json::array({choice});
    if (ways_.lie) ways_.lie(&answer);
    return io::HttpResponse{200, "application/json", answer.dump()};
  }

 private:
  static uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  static double Normal(uint64_t word) {  // near enough: the sum of four uniform numbers
    double sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<double>((word >> (16 * i)) & 0xffff) / 65536 - 0.5;
    return sum * std::sqrt(3.0);
  }
  static std::string Name(uint32_t id, bool by_ids) { return by_ids ? fmt::format("token_id:{}", id) : TextOf(id); }
  static uint32_t Likeliest(const std::vector<double>& p) {
    return static_cast<uint32_t>(std::ranges::max_element(p) - p.begin());
  }
  static std::vector<uint32_t> Top(const std::vector<double>& p, uint64_t count) {
    std::vector<uint32_t> ids(p.size());
    std::iota(ids.begin(), ids.end(), 0u);
    std::ranges::sort(ids, [&](uint32_t a, uint32_t b) { return p[a] > p[b]; });
    ids.resize(std::min<uint64_t>(count, ids.size()));
    return ids;
  }
  std::vector<double> At(const std::vector<uint32_t>& tokens, size_t length) const {
    return Distribution(std::span(tokens).first(length), ways_, stats_.num_requests);
  }

  const Ways ways_;
  io::HttpStats stats_;
  std::vector<std::string> requests_;
};

}  // namespace sluice::verify::api_model
