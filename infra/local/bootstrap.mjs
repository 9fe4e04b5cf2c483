/** `npm start`, `npm test`, `npm run demo | bench | check | deploy | node | lab:texts`: from a bare checkout to the running task. */
import { ensureInstalled, exitWith, longestEndMs, ROOT, runTypeScript, SetupError } from './toolchain.mjs'

const TASKS = {
  start: 'infra/local/start.ts',
  test: 'infra/local/test.ts',
  demo: 'infra/local/demo.ts',
  bench: 'infra/local/bench.ts',
  'lab:texts': 'infra/lab/texts.ts',
  check: 'infra/local/check.ts',
  deploy: 'infra/deploy/deploy.ts',
  node: 'gpu-node/src/main.ts',
}

try {
  const [task, ...args] = process.argv.slice(2)
  const file = task === undefined ? undefined : TASKS[task]
  if (file === undefined)
    throw new SetupError(`unknown task '${task ?? ''}'; there are: ${Object.keys(TASKS).join(', ')}.`)
  await ensureInstalled(ROOT, (line) => process.stderr.write(`${line}\n`))
  runTypeScript(ROOT, file, args, longestEndMs(task, process.env))
} catch (error) {
  exitWith(error)
}
