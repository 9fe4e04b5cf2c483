/**
 * `npm start`, `npm test`, `npm run test:sanitize | demo | bench | check | deploy | node | lab:texts`: from a bare
 * checkout to the running task.
 */
import { readTask } from './toolchain/tasks.mjs'
import { ensureInstalled, exitWith, longestEndMs, ROOT, runTypeScript } from './toolchain/toolchain.mjs'

try {
  const { help, name, file, args } = readTask(process.argv.slice(2))
  if (help === undefined) {
    await ensureInstalled(ROOT, (line) => process.stderr.write(`${line}\n`))
    runTypeScript(ROOT, file, args, longestEndMs(name, process.env))
  } else {
    process.stdout.write(`${help}\n`)
  }
} catch (error) {
  exitWith(error)
}
