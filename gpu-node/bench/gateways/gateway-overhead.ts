import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import { signedHeaders } from '@copal/shared/wire/signature.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import { LOCAL_NODE_ID } from '../../../infra/local/service/node-process.ts'

/** A running local service with the keys to call its gateway and its node. */
export interface Target {
  gatewayUrl: string
  nodeUrl: string
  apiKey: string
  /** The gateway's secret, from which that of the node is derived. */
  nodeSecret: string
  nodeId: string
  model: string
}

const PROMPT = 'One two three four five six seven eight'

/** Reads keys and secrets of the service whose home is `home`. */
export function readTarget(home: string, ports: { gateway: number; node: number }, model: string): Target {
  const credentials = JSON.parse(readFileSync(join(home, 'credentials.json'), 'utf8')) as { apiKey: string }
  const secrets = JSON.parse(readFileSync(join(home, 'secrets.json'), 'utf8')) as { nodeSecret: string }
  return {
    gatewayUrl: `http://127.0.0.1:${ports.gateway}`,
    nodeUrl: `http://127.0.0.1:${ports.node}`,
    apiKey: credentials.apiKey,
    nodeSecret: secrets.nodeSecret,
    nodeId: process.env.COPAL_NODE_ID || LOCAL_NODE_ID,
    model,
  }
}

/**
 * Sends the same request through the gateway and directly to the node, in turn. The difference of each pair is the
 * latency that the gateway adds.
 *
 * @returns lines for people
 */
export async function benchGatewayOverhead(target: Target, pairs: number): Promise<string[]> {
  const lines: string[] = []
  for (const stream of [false, true]) {
    const through: number[] = []
    const directly: number[] = []
    const added: number[] = []
    for (let pair = -5; pair < pairs; pair++) {
      const first = pair % 2 === 0
      const a = first ? await firstByteMs(viaGateway(target, stream)) : undefined
      const directMs = await firstByteMs(await direct(target, stream))
      const gatewayMs = a ?? (await firstByteMs(viaGateway(target, stream)))
      if (pair < 0) continue
      through.push(gatewayMs)
      directly.push(directMs)
      added.push(gatewayMs - directMs)
    }
    const what = stream ? 'time to first byte, stream' : 'whole response, 1 token'
    lines.push(line(`${what}, node directly`, formatSpread(spread(directly), 'ms')))
    lines.push(line(`${what}, through the gateway`, formatSpread(spread(through), 'ms')))
    lines.push(line(`${what}, added (paired)`, formatSpread(spread(added), 'ms')))
  }
  return lines
}

async function firstByteMs(request: Request): Promise<number> {
  const startedMs = performance.now()
  const response = await fetch(request)
  if (!response.ok || !response.body)
    throw new Error(`${request.url}: ${response.status} ${await response.text()}`)
  const reader = response.body.getReader()
  await reader.read()
  const elapsedMs = performance.now() - startedMs
  while (!(await reader.read()).done);
  return elapsedMs
}

function body(target: Target, stream: boolean) {
  return { model: target.model, prompt: PROMPT, max_tokens: 1, temperature: 0, stream }
}

function viaGateway(target: Target, stream: boolean): Request {
  return new Request(`${target.gatewayUrl}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${target.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify(body(target, stream)),
  })
}

async function direct(target: Target, stream: boolean): Promise<Request> {
  const path = '/rpc/completions'
  const call = {
    requestId: crypto.randomUUID(),
    domain: 'bench',
    sample: false,
    request: body(target, stream),
  }
  const bytes = new TextEncoder().encode(JSON.stringify(call))
  return new Request(`${target.nodeUrl}${path}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(await signedHeaders(
        await nodeSecret(target.nodeSecret, target.nodeId),
        { nodeId: target.nodeId, to: 'node', method: 'POST', path, body: bytes },
        Date.now(),
      )),
    },
    body: bytes,
  })
}
