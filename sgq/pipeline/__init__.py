"""The main job: plan, wrap, calibrate, finetune, evaluate, save. Everything here consumes a Plan."""
