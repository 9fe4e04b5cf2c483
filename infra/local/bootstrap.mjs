/**
 * `npm start`, `npm test`, `npm run dev | test:gpu | test:sanitize | demo | bench | check | deploy | node | lab:texts`: installs
 * the packages if necessary and runs the task.
 */
import { readTask } from './toolchain/tasks.mjs'
import { ensureInstalled, exitWith, longestEndMs, ROOT, runTypeScript } from './toolchain/toolchain.mjs'

try {
  const { help, name, file, args, options } = readTask(process.argv.slice(2))
  if (help === undefined) {
    await ensureInstalled(ROOT, (line) => process.stderr.write(`${line}\n`))
    runTypeScript(ROOT, file, args, { options, endTimeoutMs: longestEndMs(name, process.env) })
  } else {
    process.stdout.write(`${help}\n`)
  }
} catch (error) {
  exitWith(error)
}
