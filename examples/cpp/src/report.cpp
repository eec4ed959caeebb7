#include "textstat.h"

#include <iomanip>
#include <numeric>
#include <sstream>

namespace textstat {

std::string report(std::string_view text) {
  std::ostringstream out;
  const auto all = words(text);
  const auto total = std::accumulate(all.begin(), all.end(), std::uint64_t{0},
                                     [](auto sum, const Count& count) { return sum + count.times; });
  out << "lines     " << lines(text).size() << "\n";
  out << "sentences " << sentences(text).size() << "\n";
  out << "words     " << total << " (" << all.size() << " different)\n";
  out << "numbers   " << numbers(text).size() << "\n";
  out << "crc32     " << std::hex << std::setw(8) << std::setfill('0')
      << textstat_crc32(text.data(), text.size()) << std::dec << "\n";
  for (std::size_t i = 0; i < all.size() && i < 5; ++i) {
    out << std::setfill(' ') << std::setw(9) << all[i].times << " " << all[i].what << "\n";
  }
  return out.str();
}

}  // namespace textstat
