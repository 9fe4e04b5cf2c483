import { readFileSync } from 'node:fs'
import type { GatewayBundle } from './gateway-bundle.ts'

/** The name of the Worker in `wrangler.toml`, after which the files of its Durable Objects are named. */
export const WORKER_NAME = 'copal'

/**
 * Returns the options with which Miniflare runs the built gateway, without its sockets and its folder.
 *
 * @param variables secrets and settings, beside those of `wrangler.toml`
 * @param authorities certificates (PEM) that it trusts besides the public ones
 */
export function workerOptions(
  { scriptPath, optionsPath }: GatewayBundle,
  variables: Readonly<Record<string, string>>,
  authorities: readonly string[] = [],
) {
  const options = JSON.parse(readFileSync(optionsPath, 'utf8')) as { bindings?: Record<string, string> }
  const tlsOptions = { trustBrowserCas: true, trustedCertificates: [...authorities] }
  return {
    ...options,
    name: WORKER_NAME,
    modules: [{ type: 'ESModule' as const, path: 'index.js', contents: readFileSync(scriptPath, 'utf8') }],
    bindings: { ...options.bindings, ...variables },
    // The gateway's way to its nodes, straight to the network. Miniflare sends other requests of a Worker through another one.
    serviceBindings: { NODE_CERTIFICATE: { network: { allow: ['public', 'private'], tlsOptions } } },
  }
}
