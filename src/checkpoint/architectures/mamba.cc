// Mamba 1: a state-space mixer in each layer, no attention and no MLP. Sizes are those of transformers' MambaConfig.
#include "checkpoint/architecture.h"

namespace sluice::checkpoint::architectures {
namespace {

using nlohmann::ordered_json;

ordered_json ExpandedHidden(const ordered_json& config) {
  const auto hidden = WholeNumber(config.at("hidden_size"));
  const ordered_json& expand = config.at("expand");
  if (!hidden || *hidden > (uint64_t{1} << 32) || !expand.is_number()) return nullptr;
  const double size = expand.get<double>() * static_cast<double>(*hidden);
  if (!(size >= 0 && size < 0x1p53)) return nullptr;
  return static_cast<uint64_t>(size);
}

ordered_json StepRank(const ordered_json& config) {
  if (const ordered_json& given = config.at("time_step_rank"); given != ordered_json("auto")) return given;
  const auto hidden = WholeNumber(config.at("hidden_size"));
  if (!hidden) return nullptr;
  return *hidden / 16 + (*hidden % 16 == 0 ? 0 : 1);
}

constexpr ConfigDefault kDefaults[] = {
    {"conv_kernel", "4"},
    {"expand", "2"},
    {"hidden_size", "768"},
    {"num_hidden_layers", "32"},
    {"state_size", "16"},
    {"tie_word_embeddings", "true"},
    {"time_step_rank", "\"auto\""},
    {"use_bias", "false"},
    {"use_conv_bias", "true"},
    {"vocab_size", "50280"},
    {"intermediate_size", "", ExpandedHidden},
    {"dt_rank", "", StepRank},
};

constexpr PartRule kTensors[] = {
    {Part::kEmbedding, "backbone.embeddings.weight", "vocab_size, hidden_size"},
    {Part::kNorms, "backbone.layers.*.norm.weight", "hidden_size"},
    {Part::kMixer, "backbone.layers.*.mixer.in_proj.weight", "2*intermediate_size, hidden_size"},
    {Part::kMixer, "backbone.layers.*.mixer.in_proj.bias", "2*intermediate_size", "use_bias"},
    {Part::kMixer, "backbone.layers.*.mixer.conv1d.weight", "intermediate_size, 1, conv_kernel"},
    {Part::kMixer, "backbone.layers.*.mixer.conv1d.bias", "intermediate_size", "use_conv_bias"},
    {Part::kMixer, "backbone.layers.*.mixer.x_proj.weight", "dt_rank + 2*state_size, intermediate_size"},
    {Part::kMixer, "backbone.layers.*.mixer.dt_proj.weight", "intermediate_size, dt_rank"},
    {Part::kMixer, "backbone.layers.*.mixer.dt_proj.bias", "intermediate_size"},
    {Part::kMixer, "backbone.layers.*.mixer.A_log", "intermediate_size, state_size"},
    {Part::kMixer, "backbone.layers.*.mixer.D", "intermediate_size"},
    {Part::kMixer, "backbone.layers.*.mixer.out_proj.weight", "hidden_size, intermediate_size"},
    {Part::kMixer, "backbone.layers.*.mixer.out_proj.bias", "hidden_size", "use_bias"},
    {Part::kNorms, "backbone.norm_f.weight", "hidden_size"},
    {Part::kHead, "lm_head.weight", "vocab_size, hidden_size", "!tie_word_embeddings"},
};

// As its authors' own code calls it.
constexpr OldEnding kOldEndings[] = {{"backbone.embedding.weight", "backbone.embeddings.weight"}};

constexpr Architecture kMamba = {
    .name = "MambaForCausalLM",
    .model_type = "mamba",
    .defaults = kDefaults,
    .outline = {.tensors = kTensors, .lacks = "a state-space mixer", .old_endings = kOldEndings, .caches_keys = false}};

}  // namespace

const Architecture& mamba() { return kMamba; }

}  // namespace sluice::checkpoint::architectures
