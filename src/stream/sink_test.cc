#include "stream/sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "stream/testing/fake_stream.h"

namespace sluice::stream {
namespace {

using ::testing::ElementsAre;
using tests::FakeGroup;
using tests::FakeStream;

std::vector<FakeGroup> TwoGroups() {
  const quant::Encoding u8 = quant::EncodingByName("U8");
  return {{u8, {{1, 2, 3}}}, {u8, {{4, 5}}}};
}

// Writes down what it sees; posts a task for every tile.
class Recorder final : public Sink {
 public:
  explicit Recorder(std::vector<std::string>* events, std::string name, Wants wants = {})
      : events_(*events), name_(std::move(name)), wants_(wants) {}
  Wants wants() const override { return wants_; }
  Result<void> Take(const Lease& lease, Stream& stream) override {
    events_.push_back(name_ + " takes " + std::to_string(lease.pieces()[0].group));
    if (take_fails) return Fail(ErrorCode::kWrite, "disk full");
    stream.Post(lease, [this](int) { events_.push_back(name_ + " works"); });
    return {};
  }
  Result<void> End() override {
    events_.push_back(name_ + " ends");
    if (end_fails) return Fail(ErrorCode::kWrite, "disk full at the end");
    return {};
  }
  void Abandon() override { events_.push_back(name_ + " is abandoned"); }
  bool take_fails = false, end_fails = false;

 private:
  std::vector<std::string>& events_;
  const std::string name_;
  const Wants wants_;
};

class Tiles final : public ProgressListener {
 public:
  void OnTile(const StreamStats&) override { ++count; }
  int count = 0;
};

TEST(Pump, TakesEveryTileToEverySinkAndEndsAfterAllTasks) {
  std::vector<std::string> events;
  Recorder a(&events, "a"), b(&events, "b");
  Sink* sinks[] = {&a, &b};
  FakeStream stream(TwoGroups(), {.min_piece_elements = 1000, .tasks = FakeStream::Tasks::kLast});
  Tiles tiles;
  ASSERT_TRUE(Pump(stream, sinks, &tiles));
  EXPECT_THAT(events, ElementsAre("a takes 0", "b takes 0", "a takes 1", "b takes 1", "a works", "b works", "a works",
                                  "b works", "a ends", "b ends"));
  EXPECT_EQ(tiles.count, 2);
}

TEST(Pump, AnErrorOfASinkStopsThePassAfterItsTasks) {
  std::vector<std::string> events;
  Recorder a(&events, "a"), b(&events, "b");
  b.take_fails = true;
  Sink* sinks[] = {&a, &b};
  FakeStream stream(TwoGroups(), {.min_piece_elements = 1000, .tasks = FakeStream::Tasks::kLast});
  auto result = Pump(stream, sinks);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "disk full");
  EXPECT_THAT(events, ElementsAre("a takes 0", "b takes 0", "a works", "a is abandoned", "b is abandoned"));
}

TEST(Pump, AnErrorOfTheStreamIsHandedOn) {
  std::vector<std::string> events;
  Recorder a(&events, "a");
  Sink* sinks[] = {&a};
  FakeStream stream(TwoGroups(), {.min_piece_elements = 1000, .tasks = FakeStream::Tasks::kLast, .fail_at = 1});
  auto result = Pump(stream, sinks);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kRead);
  EXPECT_THAT(events, ElementsAre("a takes 0", "a works", "a is abandoned"));
}

TEST(Pump, AnErrorAtTheEndAbandonsAll) {
  std::vector<std::string> events;
  Recorder a(&events, "a"), b(&events, "b");
  a.end_fails = true;
  Sink* sinks[] = {&a, &b};
  FakeStream stream({}, {});
  EXPECT_FALSE(Pump(stream, sinks));
  EXPECT_THAT(events, ElementsAre("a ends", "a is abandoned", "b is abandoned"));
}

TEST(Together, AddsUpWhatSinksWant) {
  std::vector<std::string> events;
  Recorder a(&events, "a", {.held_bytes = 1, .own_bytes = 20, .write_bytes = 300, .nanoseconds_per_byte = 0.5});
  Recorder b(&events, "b", {.held_bytes = 4, .own_bytes = 50, .write_bytes = 600, .nanoseconds_per_byte = 0.25});
  Sink* sinks[] = {&a, &b};
  const Wants wants = Together(sinks);
  EXPECT_EQ(wants.held_bytes, 5u);
  EXPECT_EQ(wants.own_bytes, 70u);
  EXPECT_EQ(wants.write_bytes, 900u);
  EXPECT_EQ(wants.nanoseconds_per_byte, 0.75);
  EXPECT_EQ(Together({}).own_bytes, 0u);
}

}  // namespace
}  // namespace sluice::stream
