import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { nodeSecret } from '@copal/shared/wire/node-secret.ts'
import type { NodeMessage } from '../../../gpu-node/src/platform/supervisor.ts'
import type { Home } from './home.ts'
import { openLog } from '../processes/log-file.ts'
import type { Settings } from './service-settings.ts'
import type { Part } from '../processes/supervise.ts'
import { SERVING_OPTIONS } from '../toolchain/tasks.mjs'

/** The default name of the node of a local service (COPAL_NODE_ID). */
export const LOCAL_NODE_ID = 'node-1'

/** Short, so that Ctrl-C ends `npm start` soon. After it the node still reports to the gateway for up to 5.5 s. */
const GRACE_MS = 5_000

/** Returns the node as a part. It ends by itself when the IPC channel closes, so it never outlives its parent. */
export async function nodePart(
  settings: Settings,
  home: Home,
  gatewayUrl: string,
  onMessage: (message: NodeMessage) => void,
): Promise<Part> {
  const secret = await nodeSecret(home.secrets.nodeSecret, process.env.COPAL_NODE_ID || LOCAL_NODE_ID)
  return {
    name: 'node',
    logPath: home.nodeLogPath,
    spawn() {
      const log = openLog(home.nodeLogPath)
      const child: ChildProcess = spawn(
        process.execPath,
        [...SERVING_OPTIONS, ...inspectorOption(settings), join(settings.root, 'gpu-node', 'src', 'main.ts')],
        {
          cwd: settings.root,
          env: {
            ...process.env,
            COPAL_HOME: home.dir,
            COPAL_NODE_PORT: String(settings.nodePort),
            COPAL_NODE_SECRET: secret,
            COPAL_GATEWAY_URL: gatewayUrl,
            COPAL_GRACE_MS: String(GRACE_MS),
          },
          detached: true,
          stdio: ['ignore', log, log, 'ipc'],
        },
      )
      closeSync(log)
      child.on('message', (message) => onMessage(message as NodeMessage))
      return child
    },
    askToEnd: (child) => child.kill('SIGTERM'),
    graceMs: GRACE_MS + 6_500,
  }
}

function inspectorOption({ inspectorPorts }: Settings): string[] {
  return inspectorPorts ? [`--inspect=127.0.0.1:${inspectorPorts.node}`] : []
}
