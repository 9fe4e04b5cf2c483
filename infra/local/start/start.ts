/** `npm start`: runs the gateway and one node until this process is asked to end. */
import { runService } from './run-service.ts'

process.exitCode = await runService()
if (process.connected) process.disconnect()
