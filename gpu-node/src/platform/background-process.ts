/** Lowers the priority of this process. Child programs import it first, so that their threads inherit the priority. */
import { enterBackground } from './background-priority.ts'

enterBackground()
