#include "textstat.h"

#include <algorithm>
#include <set>
#include <sstream>

namespace textstat {

std::vector<Count> pairs(std::string_view text) {
  std::map<std::string, std::uint64_t> counts;
  std::istringstream in{std::string(text)};
  std::string before, word;
  while (in >> word) {
    if (!before.empty()) ++counts[before + " " + word];
    before = word;
  }
  std::multiset<std::pair<std::uint64_t, std::string>> best;
  for (const auto& [what, times] : counts) {
    best.insert({times, what});
    if (best.size() > 10) best.erase(best.begin());
  }
  std::vector<Count> sorted;
  std::for_each(best.rbegin(), best.rend(), [&](const auto& pair) {
    sorted.push_back({pair.second, pair.first});
  });
  return sorted;
}

}  // namespace textstat
