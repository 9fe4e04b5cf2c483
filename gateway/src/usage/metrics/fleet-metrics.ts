import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { FleetSnapshot } from '../../contracts/node-view.ts'
import type { MetricFamily } from '../../telemetry/exposition.ts'
import { trialFamilies } from './trial-metrics.ts'

/** Returns the state of the models and of their nodes. */
export function fleetFamilies(models: readonly ModelRow[], { nodes }: FleetSnapshot): MetricFamily[] {
  const perNode = (
    name: string,
    help: string,
    value: (node: (typeof nodes)[number]) => number,
  ): MetricFamily => ({
    name,
    help,
    type: 'gauge',
    samples: nodes.map((node) => ({ labels: { node: node.id, model: node.model }, value: value(node) })),
  })
  return [
    {
      name: 'copal_model_active_version',
      help: 'The desired mask version of the fleet; 0 is dense.',
      type: 'gauge',
      samples: models.map((model) => ({ labels: { model: model.id }, value: model.activeVersion })),
    },
    ...trialFamilies(models),
    {
      name: 'copal_nodes_alive',
      help: 'Nodes whose heartbeats arrive.',
      type: 'gauge',
      samples: models.map(({ id }) => ({
        labels: { model: id },
        value: nodes.filter((node) => node.alive && node.model === id).length,
      })),
    },
    perNode('copal_node_leases', 'Requests dispatched to a node and not settled yet.', (node) => node.leases),
    perNode('copal_node_requests_running', 'Requests that run on a node.', (node) => node.running),
    perNode('copal_node_requests_waiting', 'Requests that wait on a node.', (node) => node.waiting),
    perNode('copal_node_kv_tokens_used', 'Tokens of key/value cache in use.', (node) => node.kvTokensUsed),
    perNode(
      'copal_node_kv_tokens',
      'Capacity of the key/value cache in tokens.',
      (node) => node.kvTokensTotal,
    ),
    perNode(
      'copal_node_active_version',
      'The mask version that new requests start on.',
      (node) => node.activeVersion,
    ),
  ]
}
