export { GREEDY } from '@copal/gpu-node/serving/contract/greedy.ts'
