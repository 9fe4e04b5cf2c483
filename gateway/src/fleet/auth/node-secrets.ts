import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import type { GatewaySecrets, NodeSecrets } from '../../contracts/node-auth.ts'

/** The maximum number of nodes whose secrets an isolate caches; callers can name any node. */
const MAX_NODES = 1_024

/** Returns a function that derives the secrets of a node from those of the gateway. */
export function createNodeSecrets([current, ...accepted]: GatewaySecrets): (
  nodeId: string,
) => Promise<NodeSecrets> {
  const known = new Map<string, Promise<NodeSecrets>>()
  const derive = async (nodeId: string): Promise<NodeSecrets> => [
    await nodeSecret(current, nodeId),
    ...(await Promise.all(accepted.map((secret) => nodeSecret(secret, nodeId)))),
  ]
  return (nodeId) => {
    let secrets = known.get(nodeId)
    if (!secrets) {
      if (known.size >= MAX_NODES) known.clear()
      known.set(nodeId, (secrets = derive(nodeId)))
    }
    return secrets
  }
}
