import { statusReport } from '@copal/shared/wire/admin.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { ApiClient } from './api-client.ts'
import { formatMask } from '@copal/gpu-node/platform/quantities.ts'

/**
 * Describes when a mask that was just activated serves requests: with the next heartbeat where a node has loaded it, else when a
 * node has. The mask is active even if that cannot be found out.
 *
 * @param model the model, where the fleet serves several
 */
export async function describeGoingLive(
  client: Pick<ApiClient, 'admin'>,
  version: number,
  model: string | undefined,
): Promise<string> {
  const mask = formatMask(version)
  const status = await client.admin('GET', '/status', statusReport).catch((error: unknown) => {
    if (error instanceof UserError) return error
    throw error
  })
  if (status instanceof UserError)
    return `${mask} is active, but the status of the nodes (npx copal status) is unknown: ${status.message}`
  const { nodes } = status
  const able = nodes.filter((node) => node.alive && !node.draining && (model ?? node.model) === node.model)
  if (able.length === 0) return `${mask} is active, but no node can serve it. See: npx copal nodes`
  if (able.every((node) => node.active_version === version)) return `${mask} serves already.`
  const holds = able.some(({ weight_sets: sets }) =>
    sets.some((set) => set.version === version && set.state === 'ready'),
  )
  if (holds) return `${mask} serves within some 2 s, from the next heartbeat of each node on.`
  const others = [...new Set(able.map((node) => formatMask(node.active_version)))].join(' or ')
  return `Nodes are loading ${mask}. Until then ${others} serves. See: npx copal status`
}
