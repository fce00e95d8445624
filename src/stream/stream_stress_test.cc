// Random work for the stream, checked against what is computed plainly: values, the order of tiles, where failures are
// told, and that nothing hangs.
//
// A case is told by its seed alone; what the threads then do is not. In the suite a fixed number of cases runs.
// SLUICE_STRESS_SECONDS=n runs on for n seconds, SLUICE_STRESS_SEED=n begins at that seed (n cases:
// SLUICE_STRESS_CASES).

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "base/testing/sanitizers.h"
#include "base/units.h"
#include "stream/stream.h"
#include "stream/testing/expressions.h"
#include "stream/testing/memory_model.h"

namespace sluice::stream {
namespace {

using tests::Expression;
using tests::ExpressionGroups;
using tests::FactKind;
using tests::Group;
using tests::kBlock;
using tests::Model;
using tests::Scatter;

constexpr int kCasesInSuite = 60;
constexpr auto kLongestCase = std::chrono::seconds(60);  // a sanitizer on a busy machine is slow; a hang is for ever

uint64_t EnvironmentOr(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  uint64_t Below(uint64_t end) { return engine_() % end; }
  uint64_t Between(uint64_t first, uint64_t last) { return first + Below(last - first + 1); }
  bool OneIn(uint64_t n) { return Below(n) == 0; }
  template <class T>
  const T& Of(const std::vector<T>& values) {
    return values[Below(values.size())];
  }

 private:
  std::mt19937_64 engine_;
};

// Aborts, naming the seed, where a case takes too long.
class Watchdog {
 public:
  Watchdog() : thread_([this] { Watch(); }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      wake_.notify_all();
    }
    thread_.join();
  }
  void Begin(uint64_t seed) {
    const std::lock_guard lock(mutex_);
    seed_ = seed;
    deadline_ = std::chrono::steady_clock::now() + kLongestCase;
    wake_.notify_all();
  }

 private:
  void Watch() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      if (std::chrono::steady_clock::now() > deadline_) {
        std::fprintf(stderr, "SLUICE_STRESS_SEED=%llu hangs\n", static_cast<unsigned long long>(seed_));
        std::abort();
      }
      wake_.wait_until(lock, deadline_ + std::chrono::milliseconds(10));
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  uint64_t seed_ = 0;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::now() + kLongestCase;
  std::thread thread_;  // last: it uses the members above
};

struct Entry {
  uint32_t group;
  uint64_t batch;
};

struct Case {
  std::vector<std::unique_ptr<Model>> models;
  std::deque<Expression> expressions;
  std::vector<Group> groups;
  std::vector<Entry> queue;

  StreamOptions options;
  std::optional<uint64_t> working_bytes;  // none: the smallest that will do
  bool ample = false;                     // each byte is to be read once
  bool slow_reads = false;
  const Model* failing = nullptr;
  uint64_t fails_from = 0;
  std::optional<int> cancel_at;                 // the lease
  std::optional<uint64_t> cancel_microseconds;  // by another thread
  uint64_t post_one_in = 0;                     // 0: none
  bool slow_consumer = false;
};

// Sizes: nothing, few elements, a block and what is about it, a few blocks.
uint64_t AnySize(Random& random) {
  switch (random.Below(8)) {
    case 0:
      return random.Below(3) * random.Below(200);
    case 1:
      return random.Between(1, 5000);
    case 2:
      return kBlock - 1 + random.Below(3);
    case 3:
      return random.Between(5000, kBlock);
    case 4:
      return random.Between(4, 9) * kBlock + random.Below(3);
    default:
      return random.Between(1, 3) * kBlock + random.Below(kBlock);
  }
}

FactKind AnyFact(Random& random, int most_passes) {
  FactKind kind;
  kind.passes = static_cast<int>(random.Between(1, static_cast<uint64_t>(most_passes)));
  kind.most_passes = kind.passes + (random.OneIn(4) ? 1 : 0);  // known earlier than it might have been
  kind.every = static_cast<int>(random.Below(4));
  return kind;
}

void AddExpressions(Random& random, Case* c, bool of_parts) {
  const uint64_t num_classes = random.Between(2, 5);
  std::vector<uint64_t> sizes;
  for (uint64_t i = 0; i < num_classes; ++i) sizes.push_back(AnySize(random));
  const uint64_t num_models = random.Between(1, 3);
  for (uint64_t m = 0; m < num_models; ++m) {
    std::vector<uint64_t> counts;
    for (const uint64_t size : sizes)
      counts.insert(counts.end(), random.Between(m == 0 ? 1 : 0, size > 4 * kBlock ? 1 : 2), size);
    for (uint64_t i = counts.size(); i > 1; --i) std::swap(counts[i - 1], counts[random.Below(i)]);
    c->models.push_back(std::make_unique<Model>(counts, static_cast<uint32_t>(random.Below(1u << 20) * 4 + m)));
    for (size_t i = 0; i < counts.size(); ++i) {
      Expression& e = c->expressions.emplace_back();
      e.model = c->models.back().get();
      e.tensor = i;
      e.num_elements = counts[i];
    }
  }
  std::vector<const Expression*> all;
  for (const Expression& e : c->expressions) all.push_back(&e);
  const auto alike = [&](uint64_t num_elements, int depth) {
    std::vector<const Expression*> found;
    for (const Expression* e : all) {
      if (e->num_elements == num_elements && e->depth <= depth) found.push_back(e);
    }
    return found;
  };
  const int most_passes = static_cast<int>(random.Between(1, 4));
  const uint64_t num_computed = random.Between(2, 12);
  for (uint64_t i = 0; i < num_computed; ++i) {
    const Expression* x = random.Of(all);
    if (x->depth > 2) continue;
    Expression e;
    e.name = "computed " + std::to_string(i);
    e.depth = x->depth + 1;
    e.x = x;
    if (of_parts && x->num_elements > 2000 && random.OneIn(3)) {
      e.kind = Expression::kRows;
      e.columns = std::array<uint64_t, 3>{1000, 32, 96}[random.Below(3)];
      const bool scattered = random.OneIn(2) && e.columns == 1000;
      const uint64_t of_rows = x->num_elements / e.columns;
      const uint64_t first = random.Below(of_rows), rows = random.Between(0, of_rows - first);
      e.num_elements = rows * e.columns;
      e.map = std::make_shared<Scatter>(first, rows, of_rows, scattered);
    } else {
      e.kind = Expression::kMix;
      e.num_elements = x->num_elements;
      e.y = random.Of(alike(x->num_elements, 2));
      e.depth = std::max(e.depth, e.y->depth + 1);
      const uint64_t num_facts = random.Below(3);
      for (uint64_t f = 0; f < num_facts; ++f) {
        const Expression* at = random.OneIn(2) ? x : random.Of(alike(x->num_elements, 2));
        if (of_parts && random.OneIn(4)) at = random.Of(all);
        if (at->depth > 2) at = x;
        e.facts.push_back({{at}, AnyFact(random, most_passes)});
        if (random.OneIn(3)) e.facts.back().at.push_back(random.Of(alike(at->num_elements, 2)));
        for (const Expression* looked_at : e.facts.back().at) e.depth = std::max(e.depth, looked_at->depth + 1);
      }
    }
    c->expressions.push_back(std::move(e));
    all.push_back(&c->expressions.back());
  }
  for (Expression& e : c->expressions) e.Evaluate();

  const uint64_t num_groups = random.Between(1, 16);
  for (uint64_t g = 0; g < num_groups; ++g) {
    Group group;
    const Expression* first = random.Of(all);
    group.outs.push_back(first);
    while (random.OneIn(3)) group.outs.push_back(random.Of(alike(first->num_elements, 9)));
    std::set<const Expression*> seen;
    for (const Expression* out : group.outs) out->Collect(&seen);
    for (const Expression* e : seen) group.has_facts |= !e->facts.empty();
    if (random.OneIn(4)) group.granule = std::array<uint64_t, 3>{96, 12288, 40000}[random.Below(3)];
    c->groups.push_back(std::move(group));
  }
}

std::unique_ptr<Case> AnyCase(uint64_t seed) {
  Random random(seed);
  auto c = std::make_unique<Case>();
  c->ample = random.OneIn(4);
  AddExpressions(random, c.get(), !c->ample && random.OneIn(2));

  uint64_t batch = 0;
  for (uint32_t g = 0; g < c->groups.size(); ++g) c->queue.push_back({g, 0});
  if (!c->ample) {
    if (random.OneIn(3)) {
      for (uint64_t i = random.Between(1, 6); i > 0; --i) {
        c->queue.push_back({static_cast<uint32_t>(random.Below(c->groups.size())), 0});
      }
    }
    if (random.OneIn(3)) {
      for (uint64_t i = c->queue.size(); i > 1; --i) std::swap(c->queue[i - 1], c->queue[random.Below(i)]);
    }
  }
  for (Entry& entry : c->queue) entry.batch = batch += random.OneIn(6) ? 1 : 0;

  StreamOptions& options = c->options;
  options.num_threads = static_cast<int>(random.Between(1, 4));
  options.max_tile_bytes = 256 * kKiB << random.Below(3);
  options.read_ahead_bytes = random.OneIn(2) ? 2 * kMiB : random.Below(8) * kMiB;
  options.reader = random.OneIn(3) ? io::ReaderKind::kAuto : io::ReaderKind::kThreads;
  if (random.OneIn(2)) options.wants.held_bytes = random.Between(1, 10) * 200 * kKiB;
  c->slow_reads = options.reader == io::ReaderKind::kThreads && random.OneIn(2);
  if (c->ample) {
    options.hold = Hold::kAlways;
    c->working_bytes = 512 * kMiB;
  } else {
    options.hold = random.OneIn(3) ? Hold::kNever : Hold::kAlways;
    if (random.OneIn(16)) options.hold = Hold::kIfFaster;
    if (!random.OneIn(2)) c->working_bytes = random.Between(6, 40) * kMiB;
    if (random.OneIn(3)) {
      c->failing = c->models[random.Below(c->models.size())].get();
      c->fails_from = random.Below(c->failing->memory->bytes().size() + 1);
    }
    if (random.OneIn(8)) c->cancel_at = static_cast<int>(random.Below(20));
    if (random.OneIn(8)) c->cancel_microseconds = random.Below(20000);
  }
  if (random.OneIn(2)) c->post_one_in = random.Between(1, 4);
  c->slow_consumer = random.OneIn(6);
  return c;
}

// ---------------------------------------------------------------------------------------------------------------------
// One case.

class Trial {
 public:
  Trial(const Case& c, uint64_t seed) : case_(c), groups_(c.groups), random_(seed ^ 0xC0FFEE) {}

  void All() {
    for (const auto& model : case_.models) {
      if (case_.slow_reads) model->memory->Delay(300);
    }
    Result<std::unique_ptr<Stream>> opened = Open();
    ASSERT_TRUE(opened) << opened.error().ToString();
    stream_ = std::move(*opened);
    if (case_.failing != nullptr) case_.failing->memory->FailFrom(case_.fails_from);
    std::thread canceller;
    if (case_.cancel_microseconds) {
      canceller = std::thread([this] {
        std::this_thread::sleep_for(std::chrono::microseconds(*case_.cancel_microseconds));
        cancelled_ = true;
      });
    }
    Consume();
    if (canceller.joinable()) canceller.join();
    for (const Kept& kept : kept_) Check(kept.lease, kept.places);
    kept_.clear();
    stream_->WaitForPosted();
    if (done_ && case_.ample) CheckReads();
    stream_ = nullptr;
    if (budget_->peak_bytes() > budget_->limit_bytes()) ADD_FAILURE() << "the budget has been passed";
    EXPECT_EQ(wrong_, 0u);
  }

 private:
  struct Kept {
    Lease lease;
    std::vector<size_t> places;  // of each piece, in the queue
  };

  Result<std::unique_ptr<Stream>> Open() {
    StreamOptions options = case_.options;
    options.cancelled = &cancelled_;
    if (case_.working_bytes) {
      budget_ = std::make_unique<MemoryBudget>(tests::Budget(*case_.working_bytes + tests::kShadowBytes).limit_bytes());
      options.budget = budget_.get();
      auto stream = Stream::Open(groups_, options);
      if (stream || stream.error().code != ErrorCode::kBudget) return stream;
    }
    return tests::OpenInLeastMemory(groups_, options, &budget_);
  }

  void Consume() {
    size_t queued = 0;
    int leases = 0;
    bool drained = true;
    for (;;) {
      // Another call of Enqueue now and then, always where nothing is left.
      while (queued < case_.queue.size() && (drained || random_.OneIn(2))) {
        std::vector<uint32_t> batch;
        const uint64_t number = case_.queue[queued].batch;
        for (; queued < case_.queue.size() && case_.queue[queued].batch == number; ++queued) {
          batch.push_back(case_.queue[queued].group);
        }
        stream_->Enqueue(batch);
        drained = false;
      }
      if (case_.cancel_at && leases == *case_.cancel_at) cancelled_ = true;
      Result<Lease> lease = stream_->Next();
      if (!lease) return CheckError(lease.error());
      if (!*lease) {
        EXPECT_EQ(at_, queued) << "the queue was said to be empty";
        EXPECT_EQ(elements_, 0u);
        if (queued == case_.queue.size()) break;
        drained = true;
        continue;
      }
      ++leases;
      Take(std::move(*lease));
      if (testing::Test::HasFailure()) return;
    }
    done_ = true;
    EXPECT_FALSE(MustFail()) << "a read had failed";
  }

  void Take(Lease lease) {
    std::vector<size_t> places;
    std::optional<uint64_t> batch;
    for (const Piece& piece : lease.pieces()) {
      ASSERT_LT(at_, case_.queue.size());
      const Entry& entry = case_.queue[at_];
      const uint64_t num_elements = case_.groups[entry.group].num_elements();
      ASSERT_EQ(piece.group, entry.group);
      if (batch) ASSERT_EQ(*batch, entry.batch) << "one lease for two calls of Enqueue";
      batch = entry.batch;
      ASSERT_EQ(piece.range.begin, elements_);
      ASSERT_EQ(piece.first, elements_ == 0);
      ASSERT_EQ(piece.last, piece.range.end == num_elements);
      ASSERT_EQ(piece.views.size(), case_.groups[entry.group].outs.size());
      places.push_back(at_);
      elements_ = piece.range.end;
      if (piece.last) {
        ++at_;
        elements_ = 0;
      }
    }
    if (case_.slow_consumer) std::this_thread::sleep_for(std::chrono::microseconds(random_.Below(2000)));
    if (case_.post_one_in > 0 && random_.OneIn(case_.post_one_in)) {
      stream_->Post(lease, [this, lease, places](int) { Check(lease, places); });
    }
    // Kept as long as was announced; then the oldest goes, or any.
    if (lease.size_bytes() > case_.options.wants.held_bytes || random_.OneIn(5)) return Check(lease, places);
    while (held_bytes_ + lease.size_bytes() > case_.options.wants.held_bytes) {
      const size_t goes = random_.OneIn(2) ? 0 : random_.Below(kept_.size());
      Check(kept_[goes].lease, kept_[goes].places);
      held_bytes_ -= kept_[goes].lease.size_bytes();
      kept_.erase(kept_.begin() + static_cast<ptrdiff_t>(goes));
    }
    held_bytes_ += lease.size_bytes();
    kept_.push_back({std::move(lease), std::move(places)});
  }

  void Check(const Lease& lease, const std::vector<size_t>& places) {
    for (size_t i = 0; i < places.size(); ++i) {
      const Piece& piece = lease.pieces()[i];
      const Group& group = case_.groups[case_.queue[places[i]].group];
      for (size_t out = 0; out < group.outs.size(); ++out) {
        if (piece.views[out].range != piece.range) ++wrong_;
        if (piece.range.size() == 0) continue;
        const float* expected = group.outs[out]->values.data() + piece.range.begin;
        if (std::memcmp(piece.views[out].data, expected, 4 * piece.range.size()) != 0) ++wrong_;
      }
    }
  }

  // Where the failing source is read by what `e` stands on: always, or perhaps (rows are read in part).
  bool Touches(const Expression& e, bool perhaps) const {
    if (e.num_elements == 0 && e.facts.empty()) return false;
    if (e.kind == Expression::kStored) {
      return e.model == case_.failing && e.model->offsets[e.tensor] + 4 * e.num_elements >= case_.fails_from;
    }
    if (e.kind == Expression::kRows && !perhaps) return FactsTouch(*e.x);
    if (Touches(*e.x, perhaps) || (e.y != nullptr && Touches(*e.y, perhaps))) return true;
    for (const Expression::Looks& fact : e.facts) {
      for (const Expression* at : fact.at) {
        if (Touches(*at, perhaps)) return true;
      }
    }
    return false;
  }
  bool FactsTouch(const Expression& e) const {
    for (const Expression::Looks& fact : e.facts) {
      for (const Expression* at : fact.at) {
        if (Touches(*at, false)) return true;
      }
    }
    return (e.x != nullptr && FactsTouch(*e.x)) || (e.y != nullptr && FactsTouch(*e.y));
  }
  bool Touches(size_t place, bool perhaps) const {
    if (case_.failing == nullptr) return false;
    const Group& group = case_.groups[case_.queue[place].group];
    return std::ranges::any_of(group.outs, [&](const Expression* out) { return Touches(*out, perhaps); });
  }
  bool MustFail() const {
    for (size_t place = 0; place < case_.queue.size(); ++place) {
      if (Touches(place, false)) return true;
    }
    return false;
  }

  uint64_t TileElements(const Group& group) const {
    const uint64_t elements = stream_->plan().tile_bytes / 4;
    if (!group.has_facts && group.granule > 0 && group.granule <= elements)
      return elements / group.granule * group.granule;
    return elements / kBlock * kBlock;
  }

  bool IsNamed(size_t place, const Error& error) const {
    return error.ToString().find(groups_.name(case_.queue[place].group) + ":") != std::string::npos;
  }

  void CheckError(const Error& error) {
    SCOPED_TRACE(error.ToString());
    if (cancelled_) {
      if (error.code == ErrorCode::kCancelled) return;
    }
    ASSERT_EQ(error.code, ErrorCode::kRead);
    ASSERT_LT(at_, case_.queue.size());
    // What fails is the next tile or one that is read together with it.
    const Group& group = case_.groups[case_.queue[at_].group];
    const bool whole = group.num_elements() <= TileElements(group);
    bool failing = Touches(at_, true), named = IsNamed(at_, error);
    for (size_t place = at_ + 1; whole && place < case_.queue.size(); ++place) {
      const Group& next = case_.groups[case_.queue[place].group];
      if (case_.queue[place].batch != case_.queue[at_].batch || next.num_elements() > TileElements(next)) break;
      failing |= Touches(place, true);
      named |= IsNamed(place, error);
    }
    EXPECT_TRUE(failing) << "it came before its turn";
    EXPECT_TRUE(named) << "the next is " << groups_.name(case_.queue[at_].group);
    // Without facts, all tiles come that lie before the bad place.
    const bool plain = std::ranges::all_of(group.outs, [](const auto* e) { return e->kind == Expression::kStored; });
    if (!plain || whole) return;
    uint64_t good = group.num_elements();
    for (const Expression* out : group.outs) {
      if (out->model != case_.failing) continue;
      const uint64_t offset = out->model->offsets[out->tensor];
      const uint64_t elements = case_.fails_from > offset ? (case_.fails_from - 1 - offset) / 4 : 0;
      good = std::min(good, elements / TileElements(group) * TileElements(group));
    }
    EXPECT_EQ(elements_, good);
  }

  // With memory for all: what a group takes is read once for its facts and its values.
  void CheckReads() {
    uint64_t bytes = 0;
    for (const Entry& entry : case_.queue) {
      std::set<const Expression*> seen;
      for (const Expression* out : case_.groups[entry.group].outs) out->Collect(&seen);
      for (const Expression* e : seen) bytes += e->kind == Expression::kStored ? 4 * e->num_elements : 0;
    }
    EXPECT_LE(stream_->stats().payload_bytes, bytes);
  }

  const Case& case_;
  const ExpressionGroups groups_;
  Random random_;
  std::unique_ptr<MemoryBudget> budget_;
  std::unique_ptr<Stream> stream_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<uint64_t> wrong_ = 0;
  size_t at_ = 0;          // in the queue
  uint64_t elements_ = 0;  // of that group, handed out
  std::vector<Kept> kept_;
  uint64_t held_bytes_ = 0;
  bool done_ = false;
};

TEST(StreamStress, AnyWorkIsRightInOrderAndEnds) {
  const uint64_t seconds = EnvironmentOr("SLUICE_STRESS_SECONDS", 0);
  const uint64_t first = EnvironmentOr("SLUICE_STRESS_SEED", 1);
  const uint64_t cases = EnvironmentOr("SLUICE_STRESS_CASES", kCasesInSuite);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  Watchdog watchdog;
  uint64_t seed = first;
  for (; seed < first + cases || std::chrono::steady_clock::now() < end; ++seed) {
    SCOPED_TRACE("SLUICE_STRESS_SEED=" + std::to_string(seed));
    watchdog.Begin(seed);
    const std::unique_ptr<Case> c = AnyCase(seed);
    Trial(*c, seed).All();
    if (HasFailure()) break;
  }
  RecordProperty("cases", static_cast<int>(seed - first));
}

}  // namespace
}  // namespace sluice::stream
