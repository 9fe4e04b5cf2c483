import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import type { GatewaySecrets, NodeSecrets } from '../../contracts/node-auth.ts'

/** Nodes whose secrets an isolate remembers; strangers can name any. */
const MOST_NODES = 1_024

/** Gives each node its secrets, which follow from the gateway's. */
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
      if (known.size >= MOST_NODES) known.clear()
      known.set(nodeId, (secrets = derive(nodeId)))
    }
    return secrets
  }
}
