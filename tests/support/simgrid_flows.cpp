// Replays a list of flows in SimGrid and prints when each ends: a second opinion on max-min fair sharing.
//
// Standard input: "HOSTS LINKS FLOWS", then the capacity of each link (B/s), then for each flow, in order of start,
// "START_S SIZE_B FROM TO HOPS LINK...". All flows of one pair of hosts take the path of its first flow.
// Standard output: the CPU seconds of the simulation itself (platform and routes are ready before), then a finish each.
// The options of SimGrid come on the command line as --cfg=NAME:VALUE.
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <set>
#include <simgrid/s4u.hpp>
#include <string>
#include <vector>

namespace sg = simgrid::s4u;

struct Flow {
    double start_s;
    uint64_t size_B;
    sg::Host *from, *to;
    sg::CommPtr comm;
};

static double cpu_s() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

int main(int argc, char** argv) {
    sg::Engine engine(&argc, argv);
    std::ios::sync_with_stdio(false);
    size_t host_count, link_count, flow_count;
    std::cin >> host_count >> link_count >> flow_count;

    auto* zone = sg::create_full_zone("fabric");
    std::vector<sg::Host*> hosts;
    for (size_t i = 0; i < host_count; i++) hosts.push_back(zone->create_host("h" + std::to_string(i), 1e9));
    std::vector<sg::Link*> links;
    for (size_t i = 0; i < link_count; i++) {
        double capacity_Bps;
        std::cin >> capacity_Bps;
        links.push_back(zone->create_link("l" + std::to_string(i), capacity_Bps)->set_latency(0)->seal());
    }
    std::vector<Flow> flows;
    std::set<std::pair<size_t, size_t>> routed;
    for (size_t i = 0; i < flow_count; i++) {
        Flow flow{};
        size_t from, to, hops, link;
        std::cin >> flow.start_s >> flow.size_B >> from >> to >> hops;
        std::vector<sg::LinkInRoute> path;
        for (size_t hop = 0; hop < hops && std::cin >> link; hop++) path.emplace_back(links.at(link));
        flow.from = hosts.at(from);
        flow.to = hosts.at(to);
        if (routed.emplace(from, to).second)
            zone->add_route(flow.from->get_netpoint(), flow.to->get_netpoint(), nullptr, nullptr, path, false);
        flows.push_back(flow);
    }
    if (!std::cin) {
        std::fprintf(stderr, "standard input is not of the form that this program reads\n");
        return 2;
    }
    zone->seal();

    sg::Actor::create("driver", hosts.front(), [&flows] {
        for (auto& flow : flows) {
            sg::this_actor::sleep_until(flow.start_s);
            flow.comm = sg::Comm::sendto_async(flow.from, flow.to, flow.size_B);
        }
        for (auto& flow : flows) flow.comm->wait();
    });
    const double begin_s = cpu_s();
    engine.run();
    std::printf("%.9f\n", cpu_s() - begin_s);
    for (const auto& flow : flows) std::printf("%.17g\n", flow.comm->get_finish_time());
    return 0;
}
