//! The stories: what must hold, told in the lab against real FRR and BIRD. One file each; one program, so that it links once.

mod a_control_plane_is_real;
mod a_daemon_may_do_no_more_than_it_needs;
mod a_fault_stays_where_it_is;
mod a_node_cannot_take_anothers_pods;
mod a_node_in_trouble_says_so;
mod a_session_keeps_its_secret;
mod a_stuck_peer_costs_nobody_else;
mod an_api_server_in_trouble_costs_nothing;
mod configuration_changes_live;
mod foreign_routes_are_safe;
mod gobgp_interoperates;
mod kubectl_routelet_asks_every_node;
mod kubectl_tells_what_went_wrong;
mod malformed_messages;
mod many_routes;
mod restart_keeps_routes;
mod routes_leave_with_their_node;
mod services_are_announced_where_they_are;
mod sessions_take_other_ways;
mod several_paths;
mod the_api_server_takes_what_is_right;
mod the_cluster_is_told_how_its_nodes_are;
mod the_cluster_says_who_peers;
mod the_stand_in_answers_like_the_real_one;
mod topologies_converge;
mod zero_configuration_mesh;
