// ModelSpec: everything that the forward pass must know of a model, and nothing else: sizes, what each layer does, and
// which tensor serves which step. An architecture is data (checkpoint/architectures) plus the named steps here; the
// transformer asks no config and spells no tensor's name.
//
// A layer, where a norm without a weight and a product without a weight are left out:
//   h = input_norm(x);  q, k, v = products of h (one fused product, or three);  q, k = q_norm, k_norm of each head
//   q, k = rope(q, k);  a = softmax(softcap(scale q k^T) within the window, causal) v
//   x = x + post_attention_norm(o(a))
//   h = mlp_norm(x);  x = x + post_mlp_norm(down(activation(gate(h)) * up(h)))
// Then logits = softcap(head(final_norm(x))).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/model_config.h"
#include "infer/rope.h"

namespace sluice::infer {

// y = W x + b. W is [out, in] as stored; b is [out].
struct ProductSpec {
  std::string weight;  // tensor's name; empty: there is no such product
  std::string bias;    // empty: none
  uint64_t out = 0, in = 0;

  explicit operator bool() const { return !weight.empty(); }
  friend bool operator==(const ProductSpec&, const ProductSpec&) = default;
};

// y = x / sqrt(mean(x^2) + eps) * w, or * (1 + w). w is [size].
struct NormSpec {
  std::string weight;  // empty: there is no such norm
  uint64_t size = 0;
  float eps = 0;
  bool add_one = false;

  explicit operator bool() const { return !weight.empty(); }
  friend bool operator==(const NormSpec&, const NormSpec&) = default;
};

struct AttentionSpec {
  uint64_t heads = 0, kv_heads = 0;  // kv_heads divides heads; query head i uses key/value head i / (heads / kv_heads)
  uint64_t head_dim = 0;
  uint64_t window = 0;      // a query at p sees keys p - window + 1 .. p; 0: all from 0
  float scale = 0;          // multiplies q k^T
  float softcap = 0;        // s = softcap tanh(s / softcap), after scale and before the mask; 0: none
  uint64_t rope = 0;        // place in ModelSpec::ropes
  ProductSpec q, k, v;      // [heads head_dim], [kv_heads head_dim] twice; none where there is
  ProductSpec qkv;          // the three in one: rows of q, then of k, then of v
  ProductSpec o;            // [hidden, heads head_dim]
  NormSpec q_norm, k_norm;  // over head_dim, each head by itself, before rope

  friend bool operator==(const AttentionSpec&, const AttentionSpec&) = default;
};

enum class Activation { kSilu, kGeluTanh };

struct MlpSpec {
  Activation activation = Activation::kSilu;
  uint64_t ffn = 0;
  ProductSpec gate, up;  // [ffn, hidden]; none where there is
  ProductSpec gate_up;   // the two in one: rows of gate, then of up
  ProductSpec down;      // [hidden, ffn]

  friend bool operator==(const MlpSpec&, const MlpSpec&) = default;
};

struct LayerSpec {
  NormSpec input_norm;
  AttentionSpec attention;
  NormSpec post_attention_norm;  // on attention's output, before it is added (gemma); most have none
  NormSpec mlp_norm;
  MlpSpec mlp;
  NormSpec post_mlp_norm;  // likewise

  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

struct ModelSpec {
  std::string architecture;  // as config.json names it, for messages
  uint64_t vocab = 0, hidden = 0;
  uint64_t max_positions = 0;   // what the config claims; nothing is sized by it
  std::string embedding;        // tensor [vocab, hidden]
  float embedding_scale = 1;    // multiplies embeddings
  std::vector<RopeSpec> ropes;  // one or two
  std::vector<LayerSpec> layers;
  NormSpec final_norm;
  ProductSpec head;  // [vocab, hidden]; tied: its weight is `embedding`
  bool tied = false;
  float final_softcap = 0;  // 0: none

  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

// kUnsupported: an architecture, activation or scaling that sluice cannot run, named, with what would be needed;
// kCorrupt: a key whose value makes no sense, named with its value. Whether the tensors are there is for the checkpoint
// to say (CompareWithConfig). Memory: a few hundred bytes a layer.
Result<ModelSpec> SpecOf(const checkpoint::ModelConfig& config);

// The names of all tensors that a layer needs, or that lie outside layers (embedding, final norm, head), in the order
// in which the pass needs them; each once.
std::vector<std::string> TensorsOf(const LayerSpec& layer);
std::vector<std::string> TensorsOutsideLayers(const ModelSpec& spec);

}  // namespace sluice::infer
