#include "textstat.h"

#include <algorithm>
#include <cctype>
#include <unordered_map>

namespace textstat {

std::vector<Count> words(std::string_view text) {
  std::unordered_map<std::string, std::uint64_t> counts;
  std::string word;
  for (unsigned char c : text) {
    if (std::isalnum(c)) {
      word.push_back(static_cast<char>(std::tolower(c)));
    } else if (!word.empty()) {
      ++counts[word];
      word.clear();
    }
  }
  if (!word.empty()) ++counts[word];
  std::vector<Count> sorted;
  for (const auto& [what, times] : counts) sorted.push_back({what, times});
  std::sort(sorted.begin(), sorted.end(), [](const Count& a, const Count& b) {
    return a.times != b.times ? a.times > b.times : a.what < b.what;
  });
  return sorted;
}

}  // namespace textstat
