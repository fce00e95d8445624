#include "checkpoint/digest_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/testing/tiny_models.h"

namespace sluice::checkpoint {
namespace {

using kernels::Hash256;
using kernels::HashText;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class FakeCheckpoint final : public Checkpoint {
 public:
  const graph::Node* MakeNode(size_t, graph::Graph*) const override { return nullptr; }
  void set_config(nlohmann::ordered_json json) { config_ = ModelConfig::FromJson(std::move(json)); }
  void set_side_files(std::vector<SideFile> files) { side_files_ = std::move(files); }
  void set_embedded_tokenizer(std::string bytes) { embedded_tokenizer_ = std::move(bytes); }
};

TensorDigest Tensor(std::string name, std::string_view content, std::vector<uint64_t> shape = {2},
                    std::string encoding = "F32") {
  return {std::move(name), std::move(encoding), std::move(shape), HashText(content), content.size()};
}

std::string LittleEndian(uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string Text(const Hash256& hash) { return {reinterpret_cast<const char*>(hash.data()), hash.size()}; }

ModelDigest Digest(std::vector<TensorDigest> tensors, const Checkpoint& checkpoint = FakeCheckpoint()) {
  return MakeModelDigest(std::move(tensors), checkpoint).value();
}

TEST(DigestTree, ATensorsRootIsATreeOverItsChunks) {
  EXPECT_EQ(TensorRoot({}), HashText(""));
  const Hash256 a = HashText("a"), b = HashText("b"), c = HashText("c");
  const Hash256 one[] = {a};
  EXPECT_EQ(TensorRoot(one), a);
  const Hash256 three[] = {a, b, c};
  const Hash256 ab = HashText("\x01" + Text(a) + Text(b));
  EXPECT_EQ(TensorRoot(three), HashText("\x01" + Text(ab) + Text(c)));
}

// Put together by hand; docs/formats/digest.md has the same numbers for readers who write their own.
TEST(DigestTree, ALeafToTheByte) {
  const TensorDigest tensor = Tensor("model.norm.weight", "x", {3, 5}, "BF16");
  EXPECT_EQ(TensorLeaf(tensor),
            HashText(std::string(1, '\0') + LittleEndian(17) + "model.norm.weight" + LittleEndian(4) + "BF16" +
                     LittleEndian(2) + LittleEndian(3) + LittleEndian(5) + Text(tensor.root)));
  const TensorDigest scalar = Tensor("s", "x", {}, "F32");
  EXPECT_EQ(TensorLeaf(scalar), HashText(std::string(1, '\0') + LittleEndian(1) + "s" + LittleEndian(3) + "F32" +
                                         LittleEndian(0) + Text(scalar.root)));
}

TEST(DigestTree, TheModelsRootIsOverWeightsConfigAndTokenizer) {
  FakeCheckpoint checkpoint;
  const ModelDigest digest = Digest({Tensor("w", "x")}, checkpoint);
  EXPECT_EQ(digest.weights_root, TensorLeaf(Tensor("w", "x")));
  EXPECT_EQ(digest.config_hash, HashText(""));
  EXPECT_EQ(digest.tokenizer_hash, HashText(""));
  EXPECT_EQ(digest.model_root, HashText(Text(digest.weights_root) + Text(HashText("")) + Text(HashText(""))));
  EXPECT_EQ(digest.size_bytes, 1u);

  checkpoint.set_config({{"model_type", "llama"}, {"rope_theta", 5e6}});
  const ModelDigest with_config = Digest({Tensor("w", "x")}, checkpoint);
  EXPECT_EQ(with_config.config_hash, HashText(checkpoint.config()->Canonical()));
  EXPECT_EQ(with_config.weights_root, digest.weights_root);
  EXPECT_EQ(with_config.model_root,
            HashText(Text(digest.weights_root) + Text(with_config.config_hash) + Text(HashText(""))));
  EXPECT_NE(with_config.model_root, digest.model_root);
}

TEST(DigestTree, WeightsDoNotDependOnTheOrderInWhichTheyCame) {
  const ModelDigest a = Digest({Tensor("b", "2"), Tensor("a", "1"), Tensor("c", "3")});
  const ModelDigest b = Digest({Tensor("c", "3"), Tensor("b", "2"), Tensor("a", "1")});
  EXPECT_EQ(a.weights_root, b.weights_root);
  EXPECT_EQ(a.tensors[0].name, "a");
  const Hash256 leaves[] = {TensorLeaf(Tensor("a", "1")), TensorLeaf(Tensor("b", "2")), TensorLeaf(Tensor("c", "3"))};
  EXPECT_EQ(a.weights_root, kernels::MerkleRoot(leaves));
}

TEST(DigestTree, NameEncodingShapeAndContentAllCount) {
  const Hash256 root = Digest({Tensor("w", "x", {2, 3}, "F32")}).weights_root;
  EXPECT_NE(Digest({Tensor("v", "x", {2, 3}, "F32")}).weights_root, root);
  EXPECT_NE(Digest({Tensor("w", "x", {3, 2}, "F32")}).weights_root, root);
  EXPECT_NE(Digest({Tensor("w", "x", {6}, "F32")}).weights_root, root);
  EXPECT_NE(Digest({Tensor("w", "x", {2, 3}, "I32")}).weights_root, root);
  EXPECT_NE(Digest({Tensor("w", "y", {2, 3}, "F32")}).weights_root, root);
}

TEST(DigestTree, ATiedCopyIsReportedAndLeftOut) {
  const TensorDigest embedding = Tensor("model.embed_tokens.weight", "e", {4, 2});
  const TensorDigest norm = Tensor("model.norm.weight", "n", {2});
  const ModelDigest without = Digest({embedding, norm});
  EXPECT_THAT(without.tied, IsEmpty());
  const ModelDigest with = Digest({embedding, Tensor("lm_head.weight", "e", {4, 2}), norm});
  EXPECT_THAT(with.tied, ElementsAre("lm_head.weight"));
  EXPECT_EQ(with.weights_root, without.weights_root);
  EXPECT_EQ(with.tensors.size(), 3u);

  // Another content, shape or encoding is another tensor.
  for (const TensorDigest& head : {Tensor("lm_head.weight", "h", {4, 2}), Tensor("lm_head.weight", "e", {2, 4}),
                                   Tensor("lm_head.weight", "e", {4, 2}, "I32"), Tensor("other.weight", "e", {4, 2})}) {
    const ModelDigest other = Digest({embedding, head, norm});
    EXPECT_THAT(other.tied, IsEmpty());
    EXPECT_NE(other.weights_root, without.weights_root);
  }
}

TEST(DigestTree, TiedCopiesUnderAPrefixAndOtherNamesOfTheEmbedding) {
  EXPECT_THAT(
      Digest({Tensor("language_model.model.embed_tokens.weight", "e"), Tensor("language_model.lm_head.weight", "e")})
          .tied,
      ElementsAre("language_model.lm_head.weight"));
  EXPECT_THAT(Digest({Tensor("transformer.wte.weight", "e"), Tensor("lm_head.weight", "e")}).tied,
              ElementsAre("lm_head.weight"));
  EXPECT_THAT(Digest({Tensor("model.embed_tokens.weight", "e"), Tensor("other_lm_head.weight", "e")}).tied, IsEmpty());
  EXPECT_THAT(Digest({Tensor("a.model.embed_tokens.weight", "e"), Tensor("b.lm_head.weight", "e")}).tied, IsEmpty());
}

TEST(DigestTree, TheTokenizerIsItsFiles) {
  tests::TempDir dir;
  tests::WriteText(dir / "tokenizer.json", "{tokens}");
  tests::WriteText(dir / "merges.txt", "");
  tests::WriteText(dir / "generation_config.json", "{}");
  FakeCheckpoint checkpoint;
  checkpoint.set_side_files({{"generation_config.json", dir / "generation_config.json"},
                             {"merges.txt", dir / "merges.txt"},
                             {"tokenizer.json", dir / "tokenizer.json"}});
  EXPECT_EQ(Digest({}, checkpoint).tokenizer_hash,
            HashText(LittleEndian(10) + "merges.txt" + LittleEndian(0) + LittleEndian(14) + "tokenizer.json" +
                     LittleEndian(8) + "{tokens}"));
  // Only files that say how text becomes tokens count.
  checkpoint.set_side_files({{"generation_config.json", dir / "generation_config.json"}});
  EXPECT_EQ(Digest({}, checkpoint).tokenizer_hash, HashText(""));
  checkpoint.set_embedded_tokenizer("tables of a container");
  EXPECT_EQ(Digest({}, checkpoint).tokenizer_hash, HashText("tables of a container"));
}

TEST(DigestTree, AMissingTokenizerFileIsAnError) {
  FakeCheckpoint checkpoint;
  checkpoint.set_side_files({{"tokenizer.json", "/no/such/tokenizer.json"}});
  const auto digest = MakeModelDigest({}, checkpoint);
  ASSERT_FALSE(digest);
  EXPECT_THAT(digest.error().message, ::testing::HasSubstr("/no/such/tokenizer.json"));
}

TEST(DigestTree, NoTensorsAtAll) { EXPECT_EQ(Digest({}).weights_root, HashText("")); }

}  // namespace
}  // namespace sluice::checkpoint
