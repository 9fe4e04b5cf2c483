import type { MetricFamily, Sample } from '@copal/shared/telemetry/family.ts'
import { GATEWAY_METRICS, type GatewayMetricName } from '@copal/shared/telemetry/gateway-metric-table.ts'
import type { FleetSnapshot, NodeView } from '../../contracts/node-view.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { hasConverged } from '../../fleet/client/node-entry.ts'
import { VERSION } from '../../runtime/version.ts'
import type { MetricSamples } from './metric-samples.ts'

/** Returns the state of the models and of their nodes. */
export function fleetSamples(models: readonly ModelRow[], { nodes }: FleetSnapshot) {
  const perNode = (value: (node: NodeView) => number): Sample[] =>
    nodes.map((node) => ({ labels: [node.id, node.model], value: value(node) }))
  const perModel = (value: (model: ModelRow, own: NodeView[]) => number): Sample[] =>
    models.map((model) => {
      const own = nodes.filter((node) => node.model === model.id)
      return { labels: [model.id], value: value(model, own) }
    })
  return {
    nodesAlive: perModel((_, own) => own.filter(({ alive }) => alive).length),
    modelActiveVersion: perModel(({ activeVersion }) => activeVersion),
    modelConverged: perModel((model, own) => (hasConverged(own, model) ? 1 : 0)),
    nodeLeases: perNode(({ leases }) => leases),
    nodeRequestsRunning: perNode(({ running }) => running),
    nodeRequestsWaiting: perNode(({ waiting }) => waiting),
    nodeKvTokensUsed: perNode(({ kvTokensUsed }) => kvTokensUsed),
    nodeKvTokens: perNode(({ kvTokensTotal }) => kvTokensTotal),
    nodeActiveVersion: perNode(({ activeVersion }) => activeVersion),
    nodeWeightsSize: nodes.flatMap(({ id, model, weightSets }) =>
      weightSets.flatMap(({ version, bytes }): Sample[] =>
        bytes === undefined ? [] : [{ labels: [id, model, version], value: bytes }],
      ),
    ),
    buildInfo: [{ labels: [VERSION], value: 1 }],
  } satisfies Partial<MetricSamples>
}

/** Returns the sparsity of the masks in force. */
export function sparsitySamples(
  masks: readonly { model: string; version: number; sparsity: number }[],
): MetricSamples<'maskSparsity'> {
  return {
    maskSparsity: masks.map(({ model, version, sparsity }) => ({
      labels: [model, version],
      value: sparsity,
    })),
  }
}

/** Returns what the Fleet object has measured. */
export function dispatchSamples(families: readonly MetricFamily[]) {
  const samplesOf = (name: GatewayMetricName) => [
    ...(families.find(({ metric }) => metric.name === GATEWAY_METRICS[name].name)?.samples ?? []),
  ]
  return {
    dispatchLeases: samplesOf('dispatchLeases'),
    dispatchFailures: samplesOf('dispatchFailures'),
    dispatchRetries: samplesOf('dispatchRetries'),
    dispatchQueueLength: samplesOf('dispatchQueueLength'),
    dispatchQueueDuration: samplesOf('dispatchQueueDuration'),
    nodeBreakerState: samplesOf('nodeBreakerState'),
  } satisfies Partial<MetricSamples>
}
