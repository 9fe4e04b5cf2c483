import { statusReport } from '@copal/shared/wire/admin.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import type { ApiClient } from './api-client.ts'
import { formatMask } from '@copal/gpu-node/platform/quantities.ts'

/**
 * From when on a mask that was just made active answers: from the next request on where a node holds it; else
 * others answer until one does. It is active whether or not that can be found out.
 *
 * @param model of several
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
    return `${mask} is active. Whether nodes serve it (copal status) could not be asked: ${status.message}`
  const { nodes } = status
  const able = nodes.filter((node) => node.alive && !node.draining && (model ?? node.model) === node.model)
  if (able.length === 0) return `${mask} is active, and no node is there to serve it. See: copal nodes`
  const holds = able.some(({ weight_sets: sets }) =>
    sets.some((set) => set.version === version && set.state === 'ready'),
  )
  if (holds) return `${mask} is being served from the next request on.`
  const others = [...new Set(able.map((node) => formatMask(node.active_version)))].join(' or ')
  return `${mask} is being loaded; until then ${others} answers. See: copal status`
}
