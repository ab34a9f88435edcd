# The deployment test and its lint. Ansible lives in .venv-deploy, apart from the service's .venv.
.PHONY: test-deploy test-vagrant check-deploy deploy-tools

test-deploy: deploy-tools ## Build real hosts, deploy onto them, deliver (needs root)
	@.venv-deploy/bin/python tools/run_tests.py deploy

test-vagrant: deploy-tools ## Build the lab by `vagrant up` in Linux containers, deliver (Debian 12, root)
	@.venv-deploy/bin/python -m pytest tests/deploy/test_vagrant_up.py

check-deploy: deploy-tools ## Lint the playbooks and roles
	@PATH="$(CURDIR)/.venv-deploy/bin:$$PATH" ANSIBLE_CONFIG=ansible/ansible.cfg \
		ansible-lint --offline

deploy-tools:
	@tools/install-packages deploy
	@tools/install-deploy
