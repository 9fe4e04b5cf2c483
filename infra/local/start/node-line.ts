import { nodeEntry } from '@copal/shared/wire/admin.ts'
import { listOf, type ApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import { formatBytes } from '../../../gpu-node/src/platform/quantities.ts'

/** Describes the device of the node and the memory that its weights take; undefined if the gateway does not know them yet. */
export async function describeNode(client: Pick<ApiClient, 'admin'>): Promise<string | undefined> {
  const nodes = await client.admin('GET', '/nodes', listOf(nodeEntry)).catch(() => undefined)
  const node = nodes?.data.find(({ alive, device }) => alive && device)
  if (!node?.device) return undefined
  const { weight_memory: memory, device } = node
  if (!memory) return device
  const { budget_bytes: budget, free_bytes: free } = memory
  return `${device}; weights take ${formatBytes(budget - free)} of ${formatBytes(budget)}`
}
