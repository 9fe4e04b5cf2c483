import type { Home } from '../service/home.ts'
import type { LocalKey } from '../service/readiness.ts'
import type { Settings } from '../service/service-settings.ts'

/** Everything that is needed for the first call. */
export interface Banner {
  /** `http://127.0.0.1:8787` */
  origin: string
  apiKey: string
  adminKey: string
  model: string
  /** `dense`, or the mask that serves, like `m3`. */
  serving: string
  credentialsPath: string
  /** The device of the node and what its weights take; undefined if it is not known yet. */
  node: string | undefined
  /** A link that opens the dashboard signed in, once; undefined if none could be made. */
  dashboardLink: string | undefined
}

/** Returns how to call the service. The commands in it work as pasted. */
export function renderBanner(banner: Banner): string {
  const { origin, apiKey, adminKey, model, serving, credentialsPath, node, dashboardLink } = banner
  const question = 'What is the capital of France?'
  return `
copal serves ${model} (${serving})

  Base URL   ${origin}  (for OpenAI clients: ${origin}/v1)
  API key    ${apiKey}
  Admin key  ${adminKey}
  (also in ${credentialsPath})${node === undefined ? '' : `\n  Node       ${node}`}
  Dashboard  ${origin}/dashboard${dashboardLink === undefined ? '' : `\n  Signed in  ${dashboardLink}\n  (once, within five minutes; another one: npx copal dashboard)`}

Try it with curl:

curl -s ${origin}/v1/chat/completions -H 'Authorization: Bearer ${apiKey}' -H 'Content-Type: application/json' -d '{"model":"${model}","messages":[{"role":"user","content":"${question}"}],"max_tokens":64,"temperature":0}'

Or with the openai client, here in the checkout:

node --input-type=module <<'END'
import OpenAI from 'openai'
const client = new OpenAI({ baseURL: '${origin}/v1', apiKey: '${apiKey}' })
const stream = await client.chat.completions.create({ model: '${model}', messages: [{ role: 'user', content: '${question}' }], max_tokens: 64, temperature: 0, stream: true })
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '')
console.log()
END

In a second terminal: npx copal status, npx copal --help, npm run demo. Ctrl-C stops the service; keys, masks and domains are kept.
`
}

/** Returns a line for each other API key of the same name, with the command that revokes it. */
export function describeOtherKeys(keys: LocalKey['others']): string[] {
  return keys.map(
    ({ id, created_at: at }) =>
      `There is another API key called 'local' (${id}, created ${at}). This service does not use it. ` +
      `If nothing else does, revoke it: npx copal keys revoke ${id}\n`,
  )
}

/** Returns where to attach debuggers and where the logs are. */
export function renderDevelopmentBanner(
  { nodePort }: Pick<Settings, 'nodePort'>,
  { gatewayLogPath, nodeLogPath }: Pick<Home, 'gatewayLogPath' | 'nodeLogPath'>,
  inspectorPorts: { gateway: number; node: number },
): string {
  return `
Development (docs/debugging.md):

  Node              http://127.0.0.1:${nodePort}
  Gateway debugger  127.0.0.1:${inspectorPorts.gateway}
  Node debugger     127.0.0.1:${inspectorPorts.node}
  Gateway log       ${gatewayLogPath}
  Node log          ${nodeLogPath}

The gateway reloads and the node restarts when a file in gateway/src, gpu-node/src or shared/src changes.
`
}
