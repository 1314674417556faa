"""Whatever fails, in a seeded order: nothing that was confirmed is lost, doubled or overlapped.

account     what was confirmed over HTTP, and what the clinic must have of it in the end
crowd       clients that book and change until they are answered, beside all faults
worlds      what the clinic stands on: servers, proxies and processes, all real
kinds       the kinds of faults, each with what puts an end to it
campaign    one run: faults one after the other, then peace, then the verdict
mutants     versions of the clinic with a bug, each of which a campaign has to find
"""
