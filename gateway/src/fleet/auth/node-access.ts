import { notConfigured } from '../../runtime/not-configured.ts'
import { readList } from '../../runtime/variables.ts'
import type { AccessBindings } from '../../contracts/node-auth.ts'

/** Of one host, or of all below a name. */
const HOST = /^(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*$/i

/** The headers that open what stands in front of the node at an address; none where it is not to have them. */
export type NodeAccess = (url: URL) => Record<string, string>

/**
 * Reads the service token and who is sent it: nodes tell their addresses themselves, and one whose secret somebody else
 * has could have itself be sent the token that opens all.
 *
 * @throws AppError `internal_error` when half of the token is missing, or a host is none
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
  const isNamed = (hostname: string) =>
    hosts.some((host) => (host.startsWith('*.') ? hostname.endsWith(host.slice(1)) : hostname === host))
  const isIts = ({ protocol, hostname }: URL) =>
    hosts.length === 0 || (protocol === 'https:' && isNamed(hostname))
  return (url) => (isIts(url) ? headers : {})
}
