import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'
import { runCommand, type ExitCode } from '../../../gpu-node/cli/program.ts'
import { recordedTerminal } from './recorded-terminal.ts'

/** A call that the double of the gateway got: `GET /admin/status`, and its JSON body. */
export interface ReceivedCall {
  call: string
  body: unknown
}

/** A response with a status of its own. */
interface StatusAnswer {
  status: number
  body: object
}

/**
 * Runs one `copal` command against a double of the gateway.
 *
 * @param answers the response to every call, or a function of the call (`GET /admin/status`). Calls without a response break off.
 * @returns what the command printed, and the calls that it made, in order
 */
export async function copal(
  answers: object | ((call: string) => object | undefined),
  args: string[],
  terminalOptions: { piped?: boolean; cwd?: string; stdin?: string; answer?: string } = {},
): Promise<{ code: ExitCode; stdout: string; stderr: string; calls: ReceivedCall[] }> {
  const { env, calls } = await gatewayOf(
    typeof answers === 'function' ? (answers as (call: string) => object | undefined) : () => answers,
  )
  const terminal = recordedTerminal({ ...terminalOptions, env })
  const code = await runCommand(args, terminal)
  return { code, stdout: terminal.output(), stderr: terminal.errors(), calls }
}

/**
 * Starts a double of the gateway until the end of the test.
 *
 * @returns the environment of a command that calls it, and the calls that it got
 */
export async function gatewayOf(
  answer: (call: string) => object | StatusAnswer | undefined,
): Promise<{ env: Record<string, string>; calls: ReceivedCall[] }> {
  const calls: ReceivedCall[] = []
  const server = createServer((request, response) => {
    void (async () => {
      const body = await text(request)
      const call = `${request.method} ${request.url}`
      calls.push({ call, body: body === '' ? undefined : JSON.parse(body) })
      const given = answer(call)
      if (given === undefined) return response.destroy()
      const { status, body: sent } = isStatusAnswer(given) ? given : { status: 200, body: given }
      return response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(sent))
    })()
  }).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const env = {
    COPAL_BASE_URL: `http://127.0.0.1:${port}`,
    COPAL_ADMIN_KEY: 'admin key',
    COPAL_API_KEY: 'api key',
  }
  return { env, calls }
}

function isStatusAnswer(answer: object): answer is StatusAnswer {
  return 'status' in answer && typeof answer.status === 'number' && 'body' in answer
}
