/**
 * `npm run dev`: like `npm start`, with a debugger port for each half, and each half starts again when its sources
 * change.
 */
import { runService } from './run-service.ts'

process.exitCode = await runService({ development: true })
if (process.connected) process.disconnect()
