import { notConfigured } from '../../runtime/not-configured.ts'
import { readList } from '../../runtime/variables.ts'
import type { AccessBindings } from '../../contracts/node-auth.ts'

/** A host name, or a wildcard for its subdomains. */
const HOST = /^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$/i

/** Returns the Access headers for a call to a node's URL; none if the host may not get them. */
export type NodeAccess = (url: URL) => Record<string, string>

/**
 * Reads the Access service token and the hosts that may get it. Nodes report their own addresses, so a stolen node secret
 * could otherwise redirect the token, which opens all nodes, to another host.
 *
 * @throws AppError `internal_error` if half of the token is missing or a host is invalid
 */
export function readAccess(env: AccessBindings): NodeAccess {
  const { NODE_ACCESS_CLIENT_ID: id = '', NODE_ACCESS_CLIENT_SECRET: secret = '' } = env
  if (!id !== !secret) {
    throw notConfigured(
      `the secret NODE_ACCESS_CLIENT_${id ? 'SECRET' : 'ID'} is missing; it goes with NODE_ACCESS_CLIENT_` +
        `${id ? 'ID' : 'SECRET'}. Set both at once (\`wrangler secret bulk\`, or a .dev.vars file locally), or delete both.`,
    )
  }
  if (!id) return () => ({})
  const hosts = readList(
    env,
    'COPAL_NODE_ACCESS_HOSTS',
    (host) => HOST.test(host),
    'names like node-1.example.com or *.example.com, without scheme or port,',
  ).map((host) => host.toLowerCase())
  const headers = { 'cf-access-client-id': id, 'cf-access-client-secret': secret }
  const isListed = (hostname: string) =>
    hosts.some((host) => (host.startsWith('*.') ? hostname.endsWith(host.slice(1)) : hostname === host))
  const mayHaveToken = ({ protocol, hostname }: URL) =>
    hosts.length === 0 || (protocol === 'https:' && isListed(hostname))
  return (url) => (mayHaveToken(url) ? headers : {})
}
